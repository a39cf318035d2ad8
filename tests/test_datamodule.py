from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.data.loader import HELD, PREFETCH
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.embedding import EmbeddingBatch
from tests.shard_sets import make_shard_set, make_sparse_shard_set, overwrite

BATCHES = 8  # an epoch: 70 pairs in batches of 8, and 6 pairs left over
Seen = list[tuple[int, ...]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shard_set(tmp_path_factory.mktemp("data") / "shards", splits={"train": 70, "val": 20, "test": 11})


def data_of(folder: Path, **options: Any) -> EmbeddingDataModule:
    return EmbeddingDataModule(str(folder), **{"batch_size": 8, "window": 2, "workers": 0, **options})


class Recorder(L.LightningModule):
    """Notes the pairs of every batch; ``fail_at`` raises inside the step of that batch."""

    def __init__(self, fail_at: int | None = None, notes: Path | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: Seen = []
        self.validated: Seen = []
        self.fail_at = fail_at
        self.notes = notes

    def training_step(self, batch: EmbeddingBatch, batch_idx: int) -> torch.Tensor:
        assert batch.image_embed.dtype == batch.text.text_states.dtype == torch.float32
        assert batch.captions is None
        if len(self.seen) == self.fail_at:
            raise RuntimeError("a failure inside a step")
        self.seen.append(tuple(batch.index.tolist()))
        return self.weight * batch.image_embed.mean()

    def validation_step(self, batch: EmbeddingBatch, batch_idx: int) -> None:
        self.validated.append(tuple(batch.index.tolist()))

    def on_fit_end(self) -> None:
        if self.notes is not None:
            (self.notes / f"rank{self.global_rank}.txt").write_text(repr([self.seen, self.validated]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class SaveEverywhere(L.Callback):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.folder / f"step{trainer.global_step}.ckpt")

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.folder / f"epoch{trainer.current_epoch}.ckpt")

    def on_exception(self, trainer: L.Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.folder / "failed.ckpt")


def trainer_of(**options: Any) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )


def fit(data: EmbeddingDataModule, checkpoint: Path | None = None, model: Recorder | None = None, **options: Any) -> Recorder:
    model = model or Recorder()
    trainer_of(**options).fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    return model


LIMITS: dict[str, dict[str, Any]] = {
    "epochs": {"max_epochs": 3},
    "steps to the end of an epoch": {"max_steps": 2 * BATCHES, "max_epochs": -1},
    "steps into an epoch": {"max_steps": 2 * BATCHES + 3, "max_epochs": -1},
    "short epochs": {"max_epochs": 3, "limit_train_batches": 5},
    "validation inside an epoch": {"max_epochs": 2, "val_check_interval": 3},
    "new loaders": {"max_epochs": 2, "reload_dataloaders_every_n_epochs": 1},
    "accumulation": {"max_epochs": 2, "accumulate_grad_batches": 3},
}


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
@pytest.mark.parametrize(("context", "places"), [("fork", 4), ("spawn", 2)])
def test_resumed_with_workers(folder: Path, tmp_path: Path, context: str, places: int) -> None:
    limits: dict[str, Any] = {"max_epochs": 2}
    whole = fit(data_of(folder), callbacks=[SaveEverywhere(tmp_path)], **limits).seen
    for name, done in [("step3", 3), ("step8", 8), ("epoch0", 8), ("step15", 15)][:places]:
        data = data_of(folder, workers=2, multiprocessing_context=context)
        assert fit(data, tmp_path / f"{name}.ckpt", **limits).seen == whole[done:], name
    assert not multiprocessing.active_children()


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
    assert data.state_dict() == {"epoch": 0, "batches": 5, "global_batch": 8}
    assert fit(data, max_steps=5, max_epochs=-1).seen == first


def epochs_of(data: EmbeddingDataModule, epochs: int) -> Iterator[EmbeddingBatch]:
    loader = data.train_dataloader()
    for _ in range(epochs):
        batches = list(loader)
        assert len(batches) == len(loader)
        yield from batches
    loader.close()


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


def test_captions_longer_than_the_slots_were_made_for(folder: Path) -> None:
    data = data_of(folder, workers=1)
    object.__setattr__(data.space, "context_length", 1)
    helped = [batch.text.text_states.sum() for batch in epochs_of(data, 1)]
    assert helped == [batch.text.text_states.sum() for batch in epochs_of(data_of(folder), 1)]


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


def test_two_processes_see_what_one_sees(folder: Path, tmp_path: Path) -> None:
    alone = fit(data_of(folder), max_epochs=1)
    model = Recorder(notes=tmp_path)
    options = {"devices": 2, "strategy": "ddp_spawn", "use_distributed_sampler": True}
    trainer_of(max_epochs=1, **options).fit(model, datamodule=data_of(folder, batch_size=4))
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


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_member_is_one_sentence(tmp_path: Path, workers: int) -> None:
    folder = make_shard_set(tmp_path / "s", pairs=16)
    overwrite(folder, 0, "image_embed.npy", b"no array")
    with pytest.raises(ValueError, match=r"^The member 0000_00000.image_embed.npy of the shard [^\n]*$"):
        list(data_of(folder, workers=workers).train_dataloader())


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
    with pytest.raises(ValueError, match=r"another sha256"):
        _ = data_of(folder, check="sha256").space


def test_shards_are_built_where_a_subclass_can(tmp_path: Path) -> None:
    class Building(EmbeddingDataModule):
        def prepare_data(self) -> None:
            make_shard_set(Path(self.folder), pairs=16)

    data = Building(str(tmp_path / "s"), batch_size=8, workers=0)
    assert data.space.dim == 8
    assert len(list(data.train_dataloader())) == 2


# ---- memory and devices


def private_memory(process: int | str) -> int:
    """Bytes of a process that no file backs: anonymous and shared memory."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return sum(int(status[key].split()[0]) * 1024 for key in ("RssAnon", "RssShmem"))


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
