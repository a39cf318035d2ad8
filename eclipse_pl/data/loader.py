"""Loaders over a set of shards: they give batches to Lightning and hold the position in the order of an epoch."""

from __future__ import annotations

import math
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from eclipse_pl.data.batch_memory import bounds_of, in_memory, numbers_of
from eclipse_pl.data.copies import Copies
from eclipse_pl.data.sampler import Batch, EvaluationOrder, TrainingOrder
from eclipse_pl.data.shard_set import CaptionIds, ShardSet
from eclipse_pl.data.slots import Slots
from eclipse_pl.data.text_tower import TextTower, gather_encoded
from eclipse_pl.embedding import EmbeddingBatch, TextCondition

PREFETCH = 2
"""Number of batches that a worker makes in advance."""
HELD = 3
"""Number of batches that the training loop may hold at once. If it holds more, further batches use new memory."""


@dataclass
class Position:
    """The position of a run: ``batches`` of ``epoch`` are done. The numbers are equal on all ranks."""

    epoch: int = 0
    batches: int = 0

    def normalised(self, batches_per_epoch: int | float) -> Position:
        """The end of an epoch is the beginning of the next one."""
        return Position(self.epoch + 1, 0) if self.batches >= batches_per_epoch else Position(self.epoch, self.batches)


@dataclass(frozen=True)
class SlotBatch:
    """The message of a worker: a batch without its embeddings, which are in a slot.

    Those of negative captions are in the message itself: few sets have them, and slots keep their size.
    """

    slot: int
    lengths: np.ndarray
    index: np.ndarray
    group: np.ndarray
    negative_text_embed: np.ndarray | None


@dataclass(frozen=True)
class MadeBatch:
    """A batch, and its captions if they are still to be encoded."""

    batch: SlotBatch | EmbeddingBatch
    captions: CaptionIds | None


Made = MadeBatch | ValueError


class BatchDataset(Dataset[Made]):
    """Map-style: from a slot and the places of a batch's pairs to the batch.

    A ValueError is returned, not raised, because torch adds a traceback to the errors of workers.
    """

    def __init__(self, shards: ShardSet, slots: Slots | None) -> None:
        self.shards = shards
        self.slots = slots

    def __getitem__(self, task: tuple[int | None, Batch]) -> Made:
        try:
            return self._make(*task)
        except ValueError as error:
            return error

    def _make(self, slot: int | None, places: Batch) -> Made:
        captions = self.shards.gather_ids(*places) if self.shards.states == "tokens" else None
        return MadeBatch(self._gather(slot, places, with_states=captions is None), captions)

    def _gather(self, slot: int | None, places: Batch, with_states: bool) -> SlotBatch | EmbeddingBatch:
        if self.slots is None or slot is None:
            return self.shards.gather(*places, with_states=with_states)
        memory = self.slots.memory(slot)
        batch = self.shards.gather(*places, with_states=with_states, memory=memory)
        if batch.image_embed.data_ptr() != memory.ctypes.data:  # the slot was too small
            return batch
        assert batch.group is not None
        negative = None if batch.negative_text_embed is None else batch.negative_text_embed.numpy()
        return SlotBatch(slot, batch.text.lengths.numpy(), batch.index.numpy(), batch.group.numpy(), negative)


class TrainingLoader:
    """Training batches without end: each iteration is one epoch and begins at ``position``.

    It holds a torch DataLoader but is none, so that Lightning replaces no sampler. Iteration is lazy, because Lightning calls
    ``iter`` more often than it reads. A batch is done when the trainer has processed it, and ``processed`` counts these. A
    run that resumes from a checkpoint repeats the batch that was in progress. ``limit`` is the number of batches after which
    the trainer ends an epoch early. The epoch number that Lightning gives samplers is not used. It is one too high if a run
    with ``max_steps`` resumes from the end of an epoch (2.6.6). ``tower`` encodes the captions of shards of token ids.
    ``copies`` hands out the batches on a GPU. It is one batch ahead, which `position` does not count.
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
        limit: Callable[[], int | float] = lambda: math.inf,
        tower: TextTower | None = None,
        copies: Copies | None = None,
    ) -> None:
        self.order = order
        self._copies = copies
        self._position = position
        self._processed = processed
        self._limit = limit
        self._tower = tower
        self._processed_before: int | None = None
        self._pin_memory = pin_memory
        self._space = shards.space
        self._slots: Slots | None = None
        if workers:
            rank_batch = order.global_batch // order.world_size
            longest = numbers_of(rank_batch, rank_batch * self._space.context_length, self._space)
            self._slots = Slots(PREFETCH * workers + HELD, longest)
        self._places = _Places(shards, order, rank, self._slots)
        weakref.finalize(self, self._places.close).atexit = False  # ends downloads if nobody closes this loader
        self._loader: DataLoader[Made] | None = DataLoader(
            BatchDataset(shards, self._slots),
            batch_size=None,
            sampler=self._places,
            num_workers=workers,
            multiprocessing_context=multiprocessing_context,
            persistent_workers=workers > 0,
            prefetch_factor=PREFETCH if workers else None,
            worker_init_fn=partial(leave_signals_to_the_main_process, os.getpid()),
            generator=torch.Generator(),  # the workers' seed, which they do not use, consumes no other random numbers
        )

    def __len__(self) -> int:
        """Batches of a whole epoch, also if an iteration begins inside it. Lightning counts the earlier batches itself."""
        return len(self.order)

    def __iter__(self) -> Iterator[EmbeddingBatch]:
        assert self._loader is not None, "the loader is closed"
        self._position = self._places.position = self._position.normalised(self._epoch_length)
        batches: Iterator[EmbeddingBatch] = map(self._open, self._loader)
        if self._copies is not None:
            batches = self._copies.ahead(batches)
        for batch in batches:
            self._processed_before = self._processed()
            self._position = Position(self._position.epoch, self._position.batches + 1)
            yield batch
            del batch

    def _open(self, made: Made) -> EmbeddingBatch:
        if isinstance(made, ValueError):
            raise made
        batch = self._from_slot(made.batch) if isinstance(made.batch, SlotBatch) else made.batch
        batch = batch.pin_memory() if self._pin_memory else batch
        if self._tower is None:
            return batch
        assert made.captions is not None
        return self._tower(batch, made.captions)

    def _from_slot(self, made: SlotBatch) -> EmbeddingBatch:
        assert self._slots is not None
        pairs, tokens = len(made.lengths), int(made.lengths.sum())
        image_embed, text_embed, text_states = in_memory(self._slots.open(made.slot), pairs, tokens, self._space)
        text = TextCondition(text_embed, text_states, torch.from_numpy(made.lengths), bounds_of(made.lengths))
        negative = None if made.negative_text_embed is None else torch.from_numpy(made.negative_text_embed)
        index, group = torch.from_numpy(made.index), torch.from_numpy(made.group)
        return EmbeddingBatch(text, image_embed, index, group, negative_text_embed=negative)

    @property
    def position(self) -> Position:
        """The position at which a resumed run must begin."""
        done = self._position
        if done.batches and self._processed_before is not None and self._processed() == self._processed_before:
            done = Position(done.epoch, done.batches - 1)
        return done.normalised(self._epoch_length)

    @property
    def _epoch_length(self) -> int | float:
        return min(len(self), self._limit())

    def close(self) -> None:
        """Stop the workers, and downloads ahead of use."""
        self._loader = None
        self._places.close()

    def state_dict(self) -> dict[str, Any]:
        """Empty: the data module keeps the position, because Lightning restores it before any loader is made.

        Lightning needs both methods: it treats a loader without them as one that cannot resume.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert not state


class EvaluationLoader:
    """All pairs of a split once, with captions, keys, subsets and counterparts. They are read in this process."""

    def __init__(
        self,
        shards: ShardSet,
        order: EvaluationOrder,
        rank: int = 0,
        pin_memory: bool = False,
        tower: TextTower | None = None,
    ) -> None:
        self._shards = shards
        self._tower = tower
        self._order = order
        self._rank = rank
        self._pin_memory = pin_memory

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[EmbeddingBatch]:
        with self._shards.read_ahead(self._order.pairs.records):
            for places in self._order.batches(self._rank):
                batch = gather_encoded(self._shards, self._tower, places, with_captions=True)
                yield batch.pin_memory() if self._pin_memory and self._tower is None else batch


class _Places(Sampler[tuple[int | None, Batch]]):
    """The rest of an epoch from ``position``: a free slot for each batch, and the places of its pairs."""

    def __init__(self, shards: ShardSet, order: TrainingOrder, rank: int, slots: Slots | None) -> None:
        self.shards = shards
        self.order = order
        self.rank = rank
        self.slots = slots
        self.position = Position()
        self._ahead = ExitStack()
        self._following: Position | None = None

    def __iter__(self) -> Iterator[tuple[int | None, Batch]]:
        if self.slots is not None:
            self.slots.forget_in_flight()
        epoch, start = self.position.epoch, self.position.batches
        if self.position != self._following:  # otherwise the records of this epoch are read ahead already
            self.close()
            self._ahead.enter_context(self.shards.read_ahead(self.order.records(epoch, start)))
        self._following = None
        ready: set[int] = set()
        for places in self.order.batches(epoch, self.rank, start):
            needed = set(places[0].tolist())
            self.shards.prepare(needed - ready)
            ready = needed
            yield None if self.slots is None else self.slots.take(), places
        self._following = Position(epoch + 1)

    def close(self) -> None:
        self._ahead.close()
        self._following = None

    def __len__(self) -> int:
        return len(self.order) - self.position.batches


def leave_signals_to_the_main_process(main: int, worker: int) -> None:
    """Ctrl-C, SIGTERM and SIGHUP may reach every process of a job; the workers must live until the checkpoint is written.

    torch ends workers by SIGTERM from the process ``main``.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=end_when_told_by, args=(main,), daemon=True).start()


def end_when_told_by(main: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != main:
        pass
    os._exit(0)
