from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.data.shard_set import ShardSet
from tests.helpers.recorder import Recorder, SaveEverywhere, data_of, epochs_of, fit, trainer_of
from tests.helpers.shard_sets import make_shard_set, overwrite


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shard_set(tmp_path_factory.mktemp("data") / "shards", splits={"train": 70, "val": 20, "test": 11})


def test_a_checkpoint_of_another_batch_size(folder: Path, tmp_path: Path) -> None:
    fit(data_of(folder), callbacks=[SaveEverywhere(tmp_path)], max_epochs=1)
    data = data_of(folder, batch_size=6)
    with pytest.warns(
        UserWarning, match="8 pairs in a global batch, and now there are 6.*epoch 0 after 18 instead of 16 pairs"
    ):
        seen = fit(data, tmp_path / "step2.ckpt", max_epochs=1).seen
    assert seen == fit(data_of(folder, batch_size=6), max_epochs=1).seen[3:]


def test_the_same_data_module_begins_a_new_run_at_the_beginning(folder: Path) -> None:
    data = data_of(folder)
    first = fit(data, max_steps=5, max_epochs=-1).seen
    order = {"seed": 0, "pairs": None, "window": 2, "group_by_length": True, "captions": "all"}
    assert data.state_dict() == {"epoch": 0, "batches": 5, "global_batch": 8, "order": order}
    assert fit(data, max_steps=5, max_epochs=-1).seen == first


def test_evaluation_batches(folder: Path) -> None:
    for split, loader in {"val": data_of(folder).val_dataloader(), "test": data_of(folder).test_dataloader()}.items():
        shards = ShardSet(folder)
        keys = [key for record in shards.records(split) for key in shards.read_chunk(record).keys]
        batches = list(loader)
        assert len(batches) == len(loader)
        assert sorted(key for batch in batches for key in batch.keys or []) == keys
        for batch in batches:
            assert batch.captions == [f"caption number {int(key)}" for key in batch.keys or []]
            assert batch.subsets is not None and batch.negative_embed is not None
            assert batch.index.tolist() == [int(key) for key in batch.keys or []]
    assert max(len(batch) for batch in data_of(folder, val_batch_size=3).val_dataloader()) == 3
    assert sum(len(batch) for batch in data_of(folder, pairs=8).val_dataloader()) == 20  # `pairs` are for training


@pytest.mark.processes
def test_workers_pass_negative_captions_on(tmp_path: Path) -> None:
    folder = make_shard_set(tmp_path, pairs=64, negative_texts=["train"])
    batches = [[batch for batch in itertools.islice(epochs_of(data_of(folder, workers=workers), 1), 4)] for workers in (0, 1)]
    for one, other in zip(*batches, strict=True):
        assert one.index.tolist() == other.index.tolist() and 0 < one.negative_text_embed.isnan().any(1).sum() < len(one)
        assert torch.equal(one.negative_text_embed.nan_to_num(7), other.negative_text_embed.nan_to_num(7))
        assert one.to("cpu").negative_text_embed.dtype == torch.float32


def test_single_pass(folder: Path) -> None:
    data = data_of(folder, pairs=30)
    trained = {number for batch in itertools.islice(epochs_of(data, 4), None) for number in batch.index.tolist()}
    position = data.state_dict()
    passed = list(data.single_pass())
    numbers = [number for batch in passed for number in batch.index.tolist()]
    assert numbers == sorted(set(numbers)) and len(numbers) == 30 and trained <= set(numbers)
    assert passed[0].image_embed.dtype == torch.float32
    assert passed[0].text.text_states.shape == (0, 6) and not passed[0].text.lengths.any()
    assert len(next(iter(data.single_pass(with_states=True))).text.text_states)
    few = [number for batch in data.single_pass(11) for number in batch.index.tolist()]
    assert len(few) == 11 and set(few) < set(numbers)
    assert sum(len(batch) for batch in data.single_pass(1000)) == 30
    assert sum(len(batch) for batch in data_of(folder).single_pass(1000)) == 70
    assert data.state_dict() == position


@pytest.mark.processes
def test_two_processes_see_what_one_sees(folder: Path, tmp_path: Path) -> None:
    # a seed of its own: processes that are spawned do not know what seed an earlier test has set here
    alone = fit(data_of(folder, seed=3), max_epochs=1)
    model = Recorder(notes=tmp_path)
    options = {"devices": 2, "strategy": "ddp_spawn", "use_distributed_sampler": True}
    trainer_of(max_epochs=1, **options).fit(model, datamodule=data_of(folder, batch_size=4, seed=3))
    trained, validated = zip(*[eval(path.read_text()) for path in sorted(tmp_path.glob("rank*.txt"))], strict=True)
    assert len(trained[0]) == len(trained[1]) == len(alone.seen)
    assert [tuple(sorted(a + b)) for a, b in zip(*trained, strict=True)] == alone.seen
    assert len(validated[0]) == len(validated[1])
    assert sorted(number for rank in validated for batch in rank for number in batch) == list(range(70, 90))


# ---- what bad input gets


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"batch_size": 0}, r"data.batch_size is 0; it must be 1 or more"),
        ({"window": 0}, r"data.window is 0"),
        ({"workers": -1}, r"data.workers is -1; it must be 0 or more"),
        ({"seed": -1}, r"data.seed is -1"),
        ({"val_batch_size": 0}, r"data.val_batch_size is 0"),
        ({"multiprocessing_context": "spawn"}, r"data.workers is 0"),
    ],
)
def test_impossible_options(folder: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        data_of(folder, **options)


def test_fewer_pairs_than_one_batch(folder: Path) -> None:
    with pytest.raises(
        ValueError, match=r"70 training pairs do not fill one global batch of 71 .*Set data.batch_size to 70 or less"
    ):
        data_of(folder, batch_size=71).train_dataloader()


def test_more_pairs_than_there_are(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"pairs is 71, but there are 70 training pairs"):
        data_of(folder, pairs=71).train_dataloader()


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    data = data_of(make_shard_set(tmp_path / "s", pairs=16))
    with pytest.raises(ValueError, match=r"no pairs in the split 'val'; it holds train .16.*data_prep embed .*--val FRACTION"):
        data.val_dataloader()
    data = data_of(make_shard_set(tmp_path / "t", splits={"val": 16}))
    with pytest.raises(ValueError, match=r"no pairs in the split 'train'; it holds val"):
        data.train_dataloader()


def test_a_folder_without_shards(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"There is no .*manifest.json"):
        _ = data_of(tmp_path / "nowhere").space


def test_overfit_batches_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"set data.pairs to a small number"):
        fit(data_of(folder), max_epochs=1, overfit_batches=2)


def test_sha256_is_checked_on_request(tmp_path: Path) -> None:
    folder = make_shard_set(tmp_path / "s", pairs=16)
    content = bytearray((folder / "0000.tar").read_bytes())
    content[700] ^= 1
    (folder / "0000.tar").write_bytes(content)
    assert data_of(folder).space.dim == 8
    with pytest.raises(ValueError, match=r"sha256 differs"):
        _ = data_of(folder, check="sha256").space


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.processes)])
def test_a_record_is_checked_when_it_is_read_on_request(tmp_path: Path, workers: int) -> None:
    folder = make_shard_set(tmp_path / "s", pairs=32)
    overwrite(folder, 1, "image_embed.npy", b"\x01", at=140)
    assert len(list(data_of(folder, workers=workers).train_dataloader())) == 4
    with pytest.raises(ValueError, match=r"^The record 0000_00001 of the shard .*0000.tar has other bytes than were written"):
        list(data_of(folder, workers=workers, check="record").train_dataloader())


def test_shards_are_built_where_a_subclass_can(tmp_path: Path) -> None:
    class Building(EmbeddingDataModule):
        def prepare_data(self) -> None:
            make_shard_set(Path(self.folder), pairs=16)

    data = Building(str(tmp_path / "s"), batch_size=8, workers=0)
    assert data.space.dim == 8
    assert len(list(data.train_dataloader())) == 2


def test_the_order_follows_the_seed_of_the_run(folder: Path) -> None:
    def first_batch(run: int, **options: Any) -> tuple[int, ...]:
        L.seed_everything(run, verbose=False)
        return fit(data_of(folder, **options), max_steps=1).seen[0]

    assert first_batch(3, seed=None) == first_batch(3, seed=None) == first_batch(4, seed=3)
    assert first_batch(3, seed=None) != first_batch(4, seed=None)
