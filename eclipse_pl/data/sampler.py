"""The pairs of each batch: pure functions of numbers, without workers, environment or state."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Int

from eclipse_pl.data.one_caption import OneCaption

# Fixed: the pairs of a smaller set must not depend on the run's seed or on another setting of the run.
SUBSET_SEED = 20240407
Batch = tuple[np.ndarray, np.ndarray]
"""Records, and rows inside them, of the pairs of one batch. They ascend, so that the pairs of a record are neighbours."""


class SplitPairs:
    """The pairs of some records, by their number in the set.

    Args:
        starts: Number of the first pair of each record, and one last entry: the number of pairs in the set.
        records: The records of the split.
        lengths: Function from a record to the numbers of real tokens of its captions.
        pairs: Use the first n pairs of a fixed shuffle, so that a smaller set is part of every larger one. None uses all.
    """

    def __init__(
        self,
        starts: Int[np.ndarray, " bounds"],
        records: Int[np.ndarray, " records"],
        lengths: Callable[[int], np.ndarray],
        pairs: int | None = None,
    ) -> None:
        self.starts = starts
        self.records = records
        self._lengths = lengths
        counts = starts[records + 1] - starts[records]
        available = int(counts.sum())
        if pairs is not None and not 1 <= pairs <= available:
            raise ValueError(
                f"pairs is {pairs}, but there are {available} training pairs; give 1 to {available}, or null for all."
            )
        self._selected: np.ndarray | None = None
        if pairs is not None and pairs < available:
            chosen = np.sort(np.random.default_rng(SUBSET_SEED).permutation(available)[:pairs])
            ends = np.cumsum(counts)
            places = np.searchsorted(ends, chosen, side="right")
            self._selected = starts[records[places]] + chosen - (ends - counts)[places]
        self.count = available if pairs is None else pairs

    def __len__(self) -> int:
        return self.count

    def numbers(self, records: Int[np.ndarray, " records"]) -> Int[np.ndarray, " pairs"]:
        """Numbers of the pairs of these records, one record after another."""
        ranges = [(int(self.starts[record]), int(self.starts[record + 1])) for record in records]
        if self._selected is None:
            return np.concatenate([np.arange(first, last) for first, last in ranges])
        cuts = [np.searchsorted(self._selected, limits) for limits in ranges]
        return np.concatenate([self._selected[first:last] for first, last in cuts])

    def counts(self, records: Int[np.ndarray, " records"]) -> Int[np.ndarray, " records"]:
        """Number of the pairs of each of these records."""
        limits = self.starts[records], self.starts[records + 1]
        first, last = limits if self._selected is None else (np.searchsorted(self._selected, limit) for limit in limits)
        return last - first

    def only(self, numbers: Int[np.ndarray, " chosen"]) -> SplitPairs:
        """These of the pairs, given in ascending order."""
        chosen = copy.copy(self)
        chosen._selected, chosen.count = numbers, len(numbers)
        return chosen

    def lengths(self, numbers: Int[np.ndarray, " pairs"]) -> Int[np.ndarray, " pairs"]:
        """Numbers of real tokens of the captions of these pairs."""
        order = np.argsort(numbers)
        records, rows = self.locate(numbers[order])
        lengths = np.empty(len(numbers), dtype=np.int64)
        for places in np.split(np.arange(len(numbers)), np.flatnonzero(np.diff(records)) + 1):
            lengths[order[places]] = self._lengths(int(records[places[0]]))[rows[places]]
        return lengths

    def locate(self, numbers: Int[np.ndarray, " pairs"]) -> Batch:
        records = np.searchsorted(self.starts, numbers, side="right") - 1
        return records, numbers - self.starts[records]


class TrainingOrder:
    """The batches of every epoch, as a pure function of (seed, epoch).

    Records are shuffled. Then, window by window, the pairs of ``window`` records and the rest of the previous window are
    shuffled. The pairs that fill global batches are sorted by length (captions of one length stay shuffled) and split into
    global batches, and the order of these batches is shuffled. A rank reads every ``world_size``-th pair of a global batch.
    Ranks see captions of the same lengths. Their union is the batch that a single process with the whole global batch sees.
    The pairs that do not fill the last global batch of the epoch are left out of it.

    ``batch_size`` is the size on one rank. Without ``group_by_length`` there is no sorting. With ``one_caption`` an
    epoch holds one pair of each image.
    """

    def __init__(
        self,
        pairs: SplitPairs,
        batch_size: int,
        world_size: int = 1,
        window: int = 16,
        seed: int = 0,
        group_by_length: bool = True,
        one_caption: OneCaption | None = None,
    ) -> None:
        self.pairs = pairs
        self.one_caption = one_caption
        self.count = len(pairs if one_caption is None else one_caption)
        self.global_batch = batch_size * world_size
        self.world_size = world_size
        self.window = window
        self.seed = seed
        self.group_by_length = group_by_length
        if self.count < self.global_batch:
            kind = "pairs" if one_caption is None else "images"
            raise ValueError(
                f"{self.count} training {kind} do not fill one global batch of {self.global_batch} (batch_size {batch_size} "
                f"on each of {world_size} processes). Set data.batch_size to {self.count // world_size} or less, or add "
                f"{kind}."
            )

    def __len__(self) -> int:
        """Batches of an epoch, the same on every rank."""
        return self.count // self.global_batch

    def batches(self, epoch: int, rank: int = 0, start: int = 0) -> Iterator[Batch]:
        """The batches of ``rank`` in ``epoch``, without the first ``start``. Skipped windows are not read."""
        pairs = self._pairs_of(epoch)
        records = self._random(epoch).permutation(pairs.records)
        left_over = np.empty(0, dtype=np.int64)
        passed = 0
        for first in range(0, len(records), self.window):
            random = self._random(epoch, first)
            pool = np.concatenate([left_over, pairs.numbers(records[first : first + self.window])])
            random.shuffle(pool)
            count = len(pool) // self.global_batch
            taken, left_over = np.split(pool, [count * self.global_batch])
            if count and passed + count > start:
                if self.group_by_length:
                    taken = taken[np.argsort(pairs.lengths(taken), kind="stable")]
                shuffled = random.permutation(taken.reshape(count, self.global_batch))
                for batch in shuffled[max(0, start - passed) :, rank :: self.world_size]:
                    yield pairs.locate(np.sort(batch))
            passed += count

    def records(self, epoch: int, start: int = 0) -> Iterator[np.integer]:
        """The records in the order of their use, from the window of the batch ``start`` on, epoch after epoch without end.

        Windows before it that filled no global batch are included, because all of their pairs are left over. The rest of the
        last window that filled one is not.
        """
        for later in itertools.count(epoch):
            pairs = self._pairs_of(later)
            records = self._random(later).permutation(pairs.records)
            counts = pairs.counts(records)
            done = np.cumsum(np.add.reduceat(counts, np.arange(0, len(records), self.window))) // self.global_batch
            window = int(np.searchsorted(done, start, side="right")) if later == epoch else 0
            before = int(done[window - 1]) if window else 0
            first = self.window * (int(np.searchsorted(done, before)) + 1) if before else 0
            yield from records[first:][counts[first:] > 0]

    def _pairs_of(self, epoch: int) -> SplitPairs:
        return self.pairs if self.one_caption is None else self.pairs.only(self.one_caption.drawn(self.seed, epoch))

    def _random(self, *place: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *place])


class EvaluationOrder:
    """All pairs exactly once over the ranks. Every rank has the same number of batches, and none is empty.

    Batches differ by at most one pair in size and hold at most ``batch_size`` pairs. If ``batch_size`` is 1 and
    the pairs do not divide by the ranks, some batches hold two pairs. Captions of similar length are in one batch.
    """

    def __init__(self, pairs: SplitPairs, batch_size: int, world_size: int = 1) -> None:
        if len(pairs) < world_size:
            raise ValueError(
                f"{len(pairs)} pairs cannot be evaluated on {world_size} processes: each needs one. Use fewer processes, or "
                "make shards with a larger split."
            )
        self.pairs = pairs
        self.batch_size = batch_size
        self.world_size = world_size

    def __len__(self) -> int:
        fewest = -(-len(self.pairs) // (self.batch_size * self.world_size))
        return min(fewest, len(self.pairs) // self.world_size)

    def batches(self, rank: int = 0) -> Iterator[Batch]:
        numbers = self.pairs.numbers(self.pairs.records)
        # sorted inside blocks, so that a batch touches few records of a large split; each block when it is reached
        block, ready = 16 * self.batch_size * self.world_size, 0
        pieces = len(self) * self.world_size
        bounds = np.arange(pieces + 1) * len(numbers) // pieces
        for piece in range(rank, pieces, self.world_size):
            while ready < bounds[piece + 1]:
                part = numbers[ready : ready + block]
                part[:] = part[np.argsort(self.pairs.lengths(part), kind="stable")]
                ready += block
            yield self.pairs.locate(np.sort(numbers[bounds[piece] : bounds[piece + 1]]))
