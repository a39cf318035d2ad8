"""Callbacks that stop a run, or keep what it would leave if it were killed; and runs that do both."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import lightning as L
import torch


class StopAtBatch(L.Callback):
    """Sets ``trainer.should_stop``, as max_time and callbacks of users do, when so many batches of this process are done."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.left -= 1
        trainer.should_stop |= self.left == 0


class StopAtEpochEnd(L.Callback):
    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        trainer.should_stop = True


class FailAtBatch(L.Callback):
    """Fails before (``start``) or after (``end``) the batch of this number is worked on, or in a validation after it.

    Or ``before`` all batches, with number 0.
    """

    def __init__(self, batch: int, when: str) -> None:
        self.left, self.when = batch, when

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        self.fail("before")

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self.left -= 1
        self.fail("start")

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.fail("end")

    def on_validation_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self.fail("validation")

    def fail(self, when: str) -> None:
        if self.left == 0 and self.when == when:
            raise RuntimeError("failed on purpose")


class Snapshots(L.Callback):
    """Copies the run's folder after every batch, as a kill would leave it then: ``FOLDER/BATCHES/``."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.batches = 0

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if self.batches:
            shutil.copytree(str(trainer.log_dir), self.folder / str(self.batches))
        self.batches += 1


class FailOnRank(L.Callback):
    """One of the ranks fails before this batch as on missing data; the others would wait for it in the next collective."""

    def __init__(self, rank: int, batch: int) -> None:
        self.rank, self.batch = rank, batch

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_rank == self.rank and batch_idx == self.batch:
            raise ValueError(f"rank {self.rank} misses a shard")


class NotANumber(L.Callback):
    """The batch of one rank holds one from this number on."""

    def __init__(self, rank: int, batch: int) -> None:
        self.rank, self.batch = rank, batch

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_rank == self.rank and batch_idx == self.batch:
            batch.image_embed[0, 0] = float("nan")


class Seeds(L.Callback):
    """Notes the seed of every step's random numbers: a line of ``FOLDER/RANK.txt`` each."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        with open(self.folder / f"{trainer.global_rank}.txt", "a") as file:
            print(torch.initial_seed(), file=file)
