import multiprocessing
import shlex
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

from data_prep.__main__ import main as data_prep
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.world.datamodule import WorldDataModule

pytestmark = pytest.mark.processes

SIZES = {"train_pairs": 24, "val_pairs": 8, "test_pairs": 8}


def build(folder: str) -> tuple[str, str]:
    """Return the space's encoder, and the time at which the first shard was written."""
    data = WorldDataModule(folder, **SIZES, batch_size=8)
    return data.space.encoder, str((Path(folder) / "0000.tar").stat().st_mtime_ns)


@pytest.mark.processes
def test_processes_that_start_together_build_one_world(tmp_path):
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        first, second = pool.map(build, [str(tmp_path / "world")] * 2)
    assert first == second
    shards = ShardSet(tmp_path / "world", check="sha256")
    assert shards.manifest.splits == {"train": 24, "val": 8, "test": 8}
    assert build(str(tmp_path / "world")) == first, "nothing is built twice"


def test_no_caption_or_scene_lies_in_two_splits(tmp_path):
    data = WorldDataModule(str(tmp_path), train_pairs=300, val_pairs=60, test_pairs=60)
    shards = data.shards
    captions, embeds = {}, {}
    for split in ("train", "val", "test"):
        chunks = [shards.read_chunk(int(record)) for record in shards.records(split)]
        captions[split] = {caption for chunk in chunks for caption in chunk.captions}
        embeds[split] = {row.tobytes() for chunk in chunks for row in chunk.image_embed}
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not captions[one] & captions[other]
        assert not embeds[one] & embeds[other]


def test_validation_shows_unseen_compositions_and_training_none(tmp_path):
    shards = WorldDataModule(str(tmp_path), **SIZES).shards
    subsets = {split: set(shards.read_chunk(int(shards.records(split)[0])).subsets or []) for split in ("train", "val")}
    assert subsets == {"train": {"seen"}, "val": {"seen", "unseen"}}
    assert shards.read_chunk(int(shards.records("val")[0])).negative_embed is not None


def test_another_world_in_the_folder_is_refused(tmp_path):
    build(str(tmp_path))
    with pytest.raises(ValueError, match=r"has another world: .*'train': 24.* asks for .*'train': 25"):
        WorldDataModule(str(tmp_path), **SIZES | {"train_pairs": 25}).prepare_data()


def test_its_command_repairs_it(tmp_path):
    folder = tmp_path / "a world"  # a blank in the name must not break the command
    build(str(folder))
    manifest = ShardSet(folder).manifest
    shard = folder / manifest.shards[0].name
    before = shard.read_bytes()
    shard.write_bytes(before[:-512])
    for command in manifest.made_by.split(" && "):
        assert data_prep(shlex.split(command)[3:]) == 0
    assert shard.read_bytes() == before


def test_a_folder_of_other_colours_is_another_world(tmp_path):
    half = ["red", "orange", "yellow", "purple"]
    data = WorldDataModule(str(tmp_path / "half"), **SIZES, colours=half, batch_size=8)
    data.prepare_data()
    captions = [c for record in data.shards.records("train") for c in data.shards.read_chunk(int(record)).captions]
    assert not any(word in caption.split() for caption in captions for word in ("blue", "green", "cyan", "white"))
    WorldDataModule(str(tmp_path / "half"), **SIZES, colours=half, batch_size=8).prepare_data()
    with pytest.raises(
        ValueError, match=r"in red, orange, yellow, purple; the config asks for .* in red, orange, yellow, green"
    ):
        WorldDataModule(str(tmp_path / "half"), **SIZES, batch_size=8).prepare_data()
    made_by = data.shards.manifest.made_by
    world, embed = (shlex.split(part) for part in made_by.split("&&"))
    assert data_prep(world[3:]) == data_prep(embed[3:]) == 0, "the command in the manifest runs"


def test_building_a_world_draws_none_of_the_runs_random_numbers(tmp_path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    WorldDataModule(str(tmp_path), **SIZES, batch_size=8).prepare_data()
    assert torch.equal(before, torch.get_rng_state())
