import json
import multiprocessing
import shlex
import shutil
import tarfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from data_prep.__main__ import main as data_prep
from eclipse_pl.__main__ import main as command
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.world.datamodule import WorldDataModule
from eclipse_pl.world.encoder import WorldEncoder

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parent.parent / "experiments"
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


def arrays(shards: ShardSet, split: str) -> dict[str, np.ndarray]:
    """All pairs of a split, by key."""
    chunks = [shards.read_chunk(int(record), with_states=False) for record in shards.records(split)]
    names = ("keys", "captions", "subsets", "group", "image_embed", "text_embed", "negative_embed")
    columns = {name: [getattr(chunk, name) for chunk in chunks if getattr(chunk, name) is not None] for name in names}
    found = {name: np.concatenate(column) for name, column in columns.items() if column}
    order = np.argsort(found["keys"], kind="stable")
    return {name: column[order] for name, column in found.items()}


def raw_members(folder: Path, split: str) -> dict[str, bytes]:
    """The files of the raw pairs of a split, by name."""
    members: dict[str, bytes] = {}
    for path in sorted((folder / "raw").glob("*.tar")):
        with tarfile.open(path) as tar:
            members |= {one.name: tar.extractfile(one).read() for one in tar}
    keys = {
        json.loads(content)["key"]
        for name, content in members.items()
        if name.endswith(".json") and json.loads(content)["split"] == split
    }
    return {name: content for name, content in members.items() if name.split(".")[0] in keys}


def raw_facts(folder: Path) -> list[dict]:
    return [json.loads(content) for name, content in raw_members(folder, "train").items() if name.endswith(".json")]


@pytest.mark.long
def test_detail_changes_captions_and_no_image(tmp_path):
    full, vague = (
        WorldDataModule(str(tmp_path / f"{detail}"), **SIZES, detail=detail, batch_size=8).shards for detail in (1.0, 0.5)
    )
    assert full.manifest.splits == vague.manifest.splits == {"train": 24, "val": 8, "test": 8}
    for split in ("train", "val", "test"):
        one, other = arrays(full, split), arrays(vague, split)
        for name in ("keys", "group", "image_embed"):
            assert np.array_equal(one[name], other[name]), name
        words = zip(one["captions"], other["captions"], strict=True)
        assert all(len(few.split()) <= len(all_.split()) for all_, few in words)
        assert not np.array_equal(one["text_embed"], other["text_embed"])
    one, other = (arrays(shards, "val")["negative_embed"] for shards in (full, vague))
    kept = np.isfinite(other).all(1)
    assert 0 < kept.sum() < np.isfinite(one).all(1).sum() and np.array_equal(one[kept], other[kept])


@pytest.mark.long
def test_training_captions_have_hard_negatives_if_asked(tmp_path):
    options = {**SIZES, "batch_size": 8, "detail": 0.5}
    plain = WorldDataModule(str(tmp_path / "plain"), **options)
    data = WorldDataModule(str(tmp_path / "hard"), **options, train_negatives=True)
    assert next(iter(plain.train_dataloader())).negative_text_embed is None
    assert next(iter(data.train_dataloader())).negative_text_embed is not None
    for name in ("captions", "image_embed", "text_embed"):
        assert np.array_equal(arrays(plain.shards, "train")[name], arrays(data.shards, "train")[name])
    facts = {fact["key"]: fact for fact in raw_facts(tmp_path / "hard")}
    chunk = data.shards.read_chunk(int(data.shards.records("train")[0]))
    expected = [facts[key]["negative_caption"] for key in chunk.keys]
    assert 0 < sum(caption is None for caption in expected) < len(expected)
    for caption, found in zip(expected, torch.from_numpy(chunk.negative_text_embed.copy()).float(), strict=True):
        if caption is None:
            assert found.isnan().all()
        else:
            encoded = WorldEncoder().encode_text([caption]).text_embed[0]
            torch.testing.assert_close(found, encoded, rtol=2e-3, atol=2e-3)
    assert not [path for path in raw_members(tmp_path / "hard", "train") if "negative" in path], "their images are not drawn"
    with pytest.raises(ValueError, match=r"has another world: a train scene has .*\(with a hard negative\).*, and not"):
        WorldDataModule(str(tmp_path / "hard"), **options).prepare_data()
    WorldDataModule(str(tmp_path / "hard"), **options, train_negatives=True).prepare_data()


@pytest.mark.long
def test_captions_of_a_scene_share_its_image(tmp_path):
    data = WorldDataModule(str(tmp_path / "five"), **SIZES, detail=0.5, captions_per_scene=5, batch_size=8)
    whole = WorldDataModule(str(tmp_path / "one"), **SIZES, batch_size=8).shards
    assert data.shards.manifest.splits == {"train": 120, "val": 40, "test": 40}
    for split in ("train", "val"):
        found = arrays(data.shards, split)
        groups, counts = np.unique(found["group"], return_counts=True)
        assert set(counts) == {5} and set(groups) == set(arrays(whole, split)["group"])
        for group in groups:
            images = found["image_embed"][found["group"] == group]
            assert np.array_equal(images, np.broadcast_to(images[0], images.shape))
    records = [record for shard in data.shards.manifest.shards for record in shard.records if record.split == "train"]
    assert sum(record.images for record in records) == 24, "an image is stored once"
    assert set(arrays(data.shards, "val")["subsets"]) == {"seen", "unseen", "unsaid"}


@pytest.mark.long
def test_another_detail_in_the_folder_is_refused(tmp_path):
    options = {**SIZES, "batch_size": 8}
    folder = str(tmp_path / "vague")
    made_by = WorldDataModule(folder, **options, detail=0.25, captions_per_scene=2).shards.manifest.made_by
    WorldDataModule(folder, **options, detail=0.25, captions_per_scene=2).prepare_data()
    for other in ({"detail": 0.5, "captions_per_scene": 2}, {"captions_per_scene": 2}, {"detail": 0.25}, {}):
        with pytest.raises(
            ValueError, match=r"has another world: .*made by .*--detail 0\.25 --captions 2 .*; the config asks for"
        ):
            WorldDataModule(folder, **options, **other).prepare_data()
    before = (tmp_path / "vague" / "0000.tar").read_bytes()
    (tmp_path / "vague" / "0000.tar").write_bytes(before[:-512])
    for part in made_by.split(" && "):
        assert data_prep(shlex.split(part)[3:]) == 0, "the command in the manifest repairs it"
    assert (tmp_path / "vague" / "0000.tar").read_bytes() == before
    WorldDataModule(folder, **options, detail=0.25, captions_per_scene=2).prepare_data()  # it is still that world
    with pytest.raises(ValueError, match=r"has another world: a train scene has the captions \["):
        WorldDataModule(folder, **options, detail=0.5, captions_per_scene=2).prepare_data()


@pytest.mark.parametrize("detail", [-0.1, 1.01, float("nan")])
def test_a_detail_outside_0_to_1(tmp_path, detail):
    with pytest.raises(ValueError, match=rf"data\.detail is {detail}; it must be between 0 .* and 1"):
        WorldDataModule(str(tmp_path), detail=detail)
    with pytest.raises(ValueError, match=r"data\.captions_per_scene is 0; a scene has at least one caption"):
        WorldDataModule(str(tmp_path), captions_per_scene=0)


@pytest.mark.long
def test_a_detail_in_percent_is_one_sentence(capsys):
    part = str(ROOT / "parts" / "data" / "world_detail_50.yaml")
    assert command(["fit", "--config", str(ROOT / "linear_world.yaml"), "--data", part, "--data.init_args.detail", "50"]) == 2
    error = capsys.readouterr().err
    assert "data.detail is 50.0; it must be between 0" in error and "Traceback" not in error


def test_another_world_in_the_folder_is_refused(tmp_path):
    build(str(tmp_path))
    with pytest.raises(ValueError, match=r"has another world: .*'train': 24.*, and not .*'train': 25"):
        WorldDataModule(str(tmp_path), **SIZES | {"train_pairs": 25}).prepare_data()


def test_its_command_repairs_it(tmp_path):
    folder = tmp_path / "a world"  # a blank in the name must not break the command
    build(str(folder))
    manifest = ShardSet(folder).manifest
    shard = folder / manifest.shards[0].name
    before = shard.read_bytes()
    shard.write_bytes(before[:-512])
    for part in manifest.made_by.split(" && "):
        assert data_prep(shlex.split(part)[3:]) == 0
    assert shard.read_bytes() == before


def test_a_folder_of_other_colours_is_another_world(tmp_path):
    half = ["red", "orange", "yellow", "purple"]
    data = WorldDataModule(str(tmp_path / "half"), **SIZES, colours=half, batch_size=8)
    data.prepare_data()
    captions = [c for record in data.shards.records("train") for c in data.shards.read_chunk(int(record)).captions]
    assert not any(word in caption.split() for caption in captions for word in ("blue", "green", "cyan", "white"))
    WorldDataModule(str(tmp_path / "half"), **SIZES, colours=half, batch_size=8).prepare_data()
    with pytest.raises(ValueError, match=r"--colours red orange yellow purple .*; the config asks for `[^`]*--test 8`"):
        WorldDataModule(str(tmp_path / "half"), **SIZES, batch_size=8).prepare_data()
    made_by = data.shards.manifest.made_by
    world, embed = (shlex.split(part) for part in made_by.split("&&"))
    assert data_prep(world[3:]) == data_prep(embed[3:]) == 0, "the command in the manifest runs"


def test_building_a_world_draws_none_of_the_runs_random_numbers(tmp_path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    WorldDataModule(str(tmp_path), **SIZES, batch_size=8).prepare_data()
    assert torch.equal(before, torch.get_rng_state())


def test_a_world_that_another_process_built_meanwhile_is_checked(tmp_path, monkeypatch):
    """While this process waits for the lock, another one builds a world with other options."""
    build(str(tmp_path / "other"))

    class BuiltMeanwhile:
        def __init__(self, path):
            self.folder = Path(path).parent

        def __enter__(self):
            shutil.copytree(tmp_path / "other", self.folder, dirs_exist_ok=True)

        def __exit__(self, *error):
            pass

    monkeypatch.setattr("eclipse_pl.world.datamodule.FileLock", BuiltMeanwhile)
    with pytest.raises(ValueError, match=r"has another world: .*'train': 24.*, and not .*'train': 25"):
        WorldDataModule(str(tmp_path / "world"), **SIZES | {"train_pairs": 25}).prepare_data()
    WorldDataModule(str(tmp_path / "again"), **SIZES).prepare_data()
