"""Loaders over a set of shards: what Lightning asks for batches, and where it stands in the order of an epoch."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from eclipse_pl.data.sampler import Batch, EvaluationOrder, TrainingOrder
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.embedding import EmbeddingBatch


@dataclass
class Position:
    """Where a run stands: ``batches`` of ``epoch`` are done. The same numbers on every rank."""

    epoch: int = 0
    batches: int = 0

    def normalised(self, batches_per_epoch: float) -> Position:
        """The end of an epoch is the beginning of the next one."""
        return Position(self.epoch + 1, 0) if self.batches >= batches_per_epoch else Position(self.epoch, self.batches)


class BatchDataset(Dataset[EmbeddingBatch]):
    """Map-style: from the places of a batch's pairs to the batch."""

    def __init__(self, shards: ShardSet, with_captions: bool) -> None:
        self.shards = shards
        self.with_captions = with_captions

    def __getitem__(self, places: Batch) -> EmbeddingBatch:
        return self.shards.gather(*places, with_captions=self.with_captions)


class TrainingLoader:
    """An endless supply of epochs, one an iteration; each begins where ``position`` stands.

    It is not a torch DataLoader but holds one, so that Lightning replaces no sampler. Iterating is lazy, because Lightning
    calls ``iter`` more often than it reads. A batch counts as done when the trainer has processed it: ``processed`` counts
    those, and a checkpoint written while a batch is being worked on repeats that batch. ``limit`` is the number of batches
    after which the trainer ends an epoch early. The number of the epoch that Lightning gives samplers is not used: where a
    run with ``max_steps`` is resumed from the end of an epoch, it is one too high (2.6.6).
    """

    def __init__(
        self,
        shards: ShardSet,
        order: TrainingOrder,
        position: Position,
        rank: int = 0,
        workers: int = 0,
        multiprocessing_context: str | None = None,
        pin_memory: bool = False,
        processed: Callable[[], int | None] = lambda: None,
        limit: Callable[[], float] = lambda: math.inf,
    ) -> None:
        self.order = order
        self._position = position
        self._processed = processed
        self._limit = limit
        self._processed_before: int | None = None
        self._places = _Places(order, rank)
        self._loader: DataLoader[EmbeddingBatch] | None = DataLoader(
            BatchDataset(shards, with_captions=False),
            batch_size=None,
            sampler=self._places,
            num_workers=workers,
            multiprocessing_context=multiprocessing_context,
            persistent_workers=workers > 0,
            pin_memory=pin_memory,
            worker_init_fn=leave_interrupts_to_the_main_process,
            generator=torch.Generator(),  # the workers' seed, which they do not use, comes from no other random numbers
        )

    def __len__(self) -> int:
        """Batches of a whole epoch, also for an iteration that begins inside one (Lightning counts those before itself)."""
        return len(self.order)

    def __iter__(self) -> Iterator[EmbeddingBatch]:
        assert self._loader is not None, "the loader is closed"
        self._position = self._places.position = self._position.normalised(self._epoch_length)
        for batch in self._loader:
            self._processed_before = self._processed()
            self._position = Position(self._position.epoch, self._position.batches + 1)
            yield batch

    @property
    def position(self) -> Position:
        """Where a run that is started again has to begin."""
        done = self._position
        if done.batches and self._processed_before is not None and self._processed() == self._processed_before:
            done = Position(done.epoch, done.batches - 1)
        return done.normalised(self._epoch_length)

    @property
    def _epoch_length(self) -> float:
        return min(len(self), self._limit())

    def close(self) -> None:
        """Let the workers go."""
        self._loader = None

    def state_dict(self) -> dict[str, Any]:
        """Empty: the data module keeps the position, because Lightning restores it before any loader is made.

        Both methods are there because Lightning takes loaders without them for ones that cannot resume.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert not state


class EvaluationLoader:
    """All pairs of a split once, with captions, keys, subsets and counterparts; read in this process."""

    def __init__(self, shards: ShardSet, order: EvaluationOrder, rank: int = 0, pin_memory: bool = False) -> None:
        self._dataset = BatchDataset(shards, with_captions=True)
        self._order = order
        self._rank = rank
        self._pin_memory = pin_memory

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[EmbeddingBatch]:
        for places in self._order.batches(self._rank):
            batch = self._dataset[places]
            yield batch.pin_memory() if self._pin_memory else batch


class _Places(Sampler[Batch]):
    """The rest of an epoch, from ``position`` on."""

    def __init__(self, order: TrainingOrder, rank: int) -> None:
        self.order = order
        self.rank = rank
        self.position = Position()

    def __iter__(self) -> Iterator[Batch]:
        return self.order.batches(self.position.epoch, self.rank, self.position.batches)

    def __len__(self) -> int:
        return len(self.order) - self.position.batches


def leave_interrupts_to_the_main_process(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the workers must live until the checkpoint is written."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
