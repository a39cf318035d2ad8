from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.data.loader import HELD, PREFETCH
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.embedding import EmbeddingBatch
from tests.helpers.recorder import BATCHES, Recorder, SaveEverywhere, data_of, epochs_of, fit
from tests.helpers.shard_sets import make_shard_set, make_sparse_shard_set, overwrite


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shard_set(tmp_path_factory.mktemp("data") / "shards", splits={"train": 70, "val": 20, "test": 11})


LIMITS: dict[str, dict[str, Any]] = {
    "epochs": {"max_epochs": 3},
    "steps to the end of an epoch": {"max_steps": 2 * BATCHES, "max_epochs": -1},
    "steps into an epoch": {"max_steps": 2 * BATCHES + 3, "max_epochs": -1},
    "short epochs": {"max_epochs": 3, "limit_train_batches": 5},
    "validation inside an epoch": {"max_epochs": 2, "val_check_interval": 3},
    "new loaders": {"max_epochs": 2, "reload_dataloaders_every_n_epochs": 1},
    "accumulation": {"max_epochs": 2, "accumulate_grad_batches": 3},
}


@pytest.mark.long
@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS.keys())
def test_a_run_resumed_anywhere_sees_what_the_uninterrupted_run_sees(
    folder: Path, tmp_path: Path, limits: dict[str, Any]
) -> None:
    whole = fit(data_of(folder), callbacks=[SaveEverywhere(tmp_path)], **limits).seen
    epoch = limits.get("limit_train_batches", BATCHES)
    accumulate = limits.get("accumulate_grad_batches", 1)
    steps = sorted(tmp_path.glob("step*.ckpt"))
    assert len(set(whole)) == len(whole) and len(steps) >= len(whole) // accumulate
    for checkpoint in [*steps, *tmp_path.glob("epoch*.ckpt")]:
        number = int("".join(filter(str.isdigit, checkpoint.stem)))
        if checkpoint.stem.startswith("epoch"):
            done = min(len(whole), (number + 1) * epoch)
        elif accumulate == 1:
            done = number
        else:  # the last file of a step was written just before the next step; an epoch of 8 batches takes 3 steps
            done = number // 3 * BATCHES + (min(BATCHES - 1, number % 3 * accumulate + accumulate - 1))
            done = len(whole) if number == 6 else done
        assert fit(data_of(folder), checkpoint, **limits).seen == whole[done:], checkpoint.stem


# starting processes afresh takes seconds
@pytest.mark.processes
@pytest.mark.parametrize(("context", "places"), [("fork", 4), ("spawn", 2)])
def test_resumed_with_workers(folder: Path, tmp_path: Path, context: str, places: int) -> None:
    limits: dict[str, Any] = {"max_epochs": 2}
    whole = fit(data_of(folder), callbacks=[SaveEverywhere(tmp_path)], **limits).seen
    for name, done in [("step3", 3), ("step8", 8), ("epoch0", 8), ("step15", 15)][:places]:
        data = data_of(folder, workers=2, multiprocessing_context=context)
        assert fit(data, tmp_path / f"{name}.ckpt", **limits).seen == whole[done:], name
    assert not multiprocessing.active_children()


@pytest.mark.processes
@pytest.mark.slow()
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_resumed_with_workers_after_every_step(folder: Path, tmp_path: Path, context: str) -> None:
    def data() -> EmbeddingDataModule:
        return data_of(folder, workers=2, multiprocessing_context=context)

    whole = fit(data(), callbacks=[SaveEverywhere(tmp_path)], max_epochs=2).seen
    assert whole == fit(data_of(folder), max_epochs=2).seen
    for step in range(1, len(whole) + 1):
        assert fit(data(), tmp_path / f"step{step}.ckpt", max_epochs=2).seen == whole[step:]


def test_a_batch_that_failed_is_seen_again(folder: Path, tmp_path: Path) -> None:
    whole = fit(data_of(folder), max_epochs=2).seen
    for failing in (0, 5, BATCHES - 1, BATCHES):
        with pytest.raises(RuntimeError, match="inside a step"):
            fit(data_of(folder), model=Recorder(failing), callbacks=[SaveEverywhere(tmp_path)], max_epochs=2)
        assert fit(data_of(folder), tmp_path / "failed.ckpt", max_epochs=2).seen == whole[failing:], failing


def test_resumed_where_the_optimizer_asks_for_the_number_of_steps(folder: Path, tmp_path: Path) -> None:
    """Lightning then makes the loader before it restores the loops, and never restores the state of a loader."""

    class Asking(Recorder):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            assert self.trainer.estimated_stepping_batches == 2 * BATCHES
            return super().configure_optimizers()

    whole = fit(data_of(folder), model=Asking(), callbacks=[SaveEverywhere(tmp_path)], max_epochs=2).seen
    assert fit(data_of(folder), tmp_path / "step3.ckpt", Asking(), max_epochs=2).seen == whole[3:]


@pytest.mark.processes
@pytest.mark.parametrize(("workers", "context"), [(1, "fork"), (2, "fork"), (1, "spawn")])
def test_workers_change_nothing(folder: Path, workers: int, context: str) -> None:
    """Batches are compared after all of them were made: a slot that was used again too early would show."""
    alone = list(epochs_of(data_of(folder), 3))
    helped = list(epochs_of(data_of(folder, workers=workers, multiprocessing_context=context), 3))
    assert len(alone) == 3 * BATCHES > PREFETCH * workers + HELD
    shards = ShardSet(folder)
    for ours, theirs in zip(alone, helped, strict=True):
        assert ours.index.tolist() == theirs.index.tolist()
        records, rows = data_of(folder)._split("train").locate(ours.index.numpy())
        expected = shards.gather(records, rows)
        for batch in (ours, theirs):
            assert torch.equal(batch.image_embed, expected.image_embed)
            assert torch.equal(batch.text.text_embed, expected.text.text_embed)
            assert torch.equal(batch.text.text_states, expected.text.text_states)
            assert torch.equal(batch.text.lengths, expected.text.lengths)
            assert batch.text.bounds == (int(batch.text.lengths.min()), int(batch.text.lengths.max()))


@pytest.mark.processes
def test_an_epoch_left_early_costs_no_slot(folder: Path) -> None:
    loader = data_of(folder, workers=2).train_dataloader()
    for _ in range(5):
        next(iter(loader))
    assert loader._slots is not None
    for batch in loader:
        assert len(loader._slots._in_flight) <= 2 * PREFETCH
        assert len(loader._slots._in_use) == 1  # that of ``batch``: none of the left epochs is still held
        del batch
    assert not loader._slots._in_use


@pytest.mark.processes
def test_captions_longer_than_the_slots_were_made_for(folder: Path) -> None:
    data = data_of(folder, workers=1)
    object.__setattr__(data.space, "context_length", 1)
    helped = [batch.text.text_states.sum() for batch in epochs_of(data, 1)]
    assert helped == [batch.text.text_states.sum() for batch in epochs_of(data_of(folder), 1)]


@pytest.mark.processes
def test_interrupts_do_not_reach_the_workers(folder: Path) -> None:
    loader = data_of(folder, workers=1).train_dataloader()
    batches = iter(loader)
    next(batches)
    for child in multiprocessing.active_children():
        assert child.pid is not None
        os.kill(child.pid, signal.SIGINT)
    assert len(list(batches)) == len(loader) - 1
    del batches
    loader.close()


def test_every_epoch_has_an_order_of_its_own(folder: Path) -> None:
    epochs = [str([batch.index.tolist() for batch in epochs_of(data_of(folder, seed=seed), 2)]) for seed in (0, 0, 1)]
    assert epochs[0] == epochs[1] != epochs[2]


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.processes)])
def test_a_damaged_member_is_one_sentence(tmp_path: Path, workers: int) -> None:
    folder = make_shard_set(tmp_path / "s", pairs=16)
    overwrite(folder, 0, "image_embed.npy", b"no array")
    with pytest.raises(ValueError, match=r"^The member 0000_00000.image_embed.npy of the shard [^\n]*$"):
        list(data_of(folder, workers=workers).train_dataloader())


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.processes)])
def test_batches_state_which_pairs_share_an_image(folder: Path, workers: int) -> None:
    shards = ShardSet(folder)
    groups = np.concatenate([shards.read_chunk(record).group for record in range(len(shards.entries))])
    data = data_of(folder, workers=workers)
    for batch in [*data.train_dataloader(), *data.val_dataloader()]:
        assert batch.group is not None and batch.group.tolist() == groups[batch.index].tolist()


def private_memory(process: int | str) -> int:
    """Bytes of a process that no file backs: anonymous and shared memory."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return sum(int(status[key].split()[0]) * 1024 for key in ("RssAnon", "RssShmem"))


@pytest.mark.processes
@pytest.mark.slow()
def test_memory_does_not_grow_with_the_set(tmp_path: Path) -> None:
    folder = make_sparse_shard_set(tmp_path / "s", 20)
    assert sum(path.stat().st_size for path in folder.glob("*.tar")) > 19e9
    before = private_memory("self")
    data = EmbeddingDataModule(str(folder), batch_size=256, workers=1, multiprocessing_context="fork")
    loader, most = data.train_dataloader(), 0
    for number, _ in enumerate(loader):
        if number % 50 == 0:
            most = max(
                most, private_memory("self") + sum(private_memory(child.pid) for child in multiprocessing.active_children())
            )
    loader.close()
    assert number == len(loader) - 1
    print(f"{before / 1e6:.0f} MB before, {most / 1e6:.0f} MB at most, main process and worker together")
    assert most - 2 * before < 0.5e9


@pytest.mark.processes
@pytest.mark.gpu()
def test_batches_cross_to_the_gpu(folder: Path) -> None:
    class OnDevice(Recorder):
        def training_step(self, batch: EmbeddingBatch, batch_idx: int) -> torch.Tensor:
            assert batch.image_embed.is_cuda
            expected = shards.gather(*split.locate(batch.index.cpu().numpy()))
            assert torch.equal(batch.text.text_states.cpu(), expected.text.text_states.float())
            assert torch.equal(batch.image_embed.cpu(), expected.image_embed.float())
            return super().training_step(batch, batch_idx)

    shards, split = ShardSet(folder), data_of(folder)._split("train")
    trainer = L.Trainer(accelerator="gpu", devices=1, logger=False, enable_checkpointing=False, max_epochs=3)
    model = OnDevice()
    trainer.fit(model, datamodule=data_of(folder, workers=2))
    assert len(model.seen) == 3 * BATCHES
