"""Callbacks of ranks that are late, die without a word, or note what they saw."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import lightning as L


class Sleeps(L.Callback):
    """One rank sleeps so long before this batch, while the others wait for it."""

    def __init__(self, rank: int, batch: int, seconds: float) -> None:
        self.rank, self.batch, self.seconds = rank, batch, seconds

    def on_train_batch_start(self, trainer: L.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_rank == self.rank and batch_idx == self.batch:
            time.sleep(self.seconds)


class Killed(L.Callback):
    """One rank kills itself before this batch, as a scheduler or the kernel does when memory runs out."""

    def __init__(self, rank: int, batch: int) -> None:
        self.rank, self.batch = rank, batch

    def on_train_batch_start(self, trainer: L.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_rank == self.rank and batch_idx == self.batch:
            os.kill(os.getpid(), signal.SIGKILL)


class Batches(L.Callback):
    """Notes the pairs of every batch: a line of ``FOLDER/train.RANK.txt`` or ``FOLDER/val.RANK.txt`` each."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        self.note("train", trainer.global_rank, batch)

    def on_validation_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        self.note("val", trainer.global_rank, batch)

    def note(self, kind: str, rank: int, batch: Any) -> None:
        with open(self.folder / f"{kind}.{rank}.txt", "a") as file:
            print(*batch.index.tolist(), file=file)


def noted(folder: Path, kind: str) -> list[list[int]]:
    """The pairs of each batch in order, over all ranks."""
    ranks = [[list(map(int, line.split())) for line in path.read_text().splitlines()] for path in folder.glob(f"{kind}.*.txt")]
    return [sorted(pair for batch in batches for pair in batch) for batches in zip(*ranks, strict=True)]
