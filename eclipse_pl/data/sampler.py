"""Which pairs make which batch: pure functions of numbers, without workers, environment or state."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Int

# Which pairs a smaller set keeps must depend neither on the run's seed nor on anything else that a run may change.
SUBSET_SEED = 20240407
Batch = tuple[np.ndarray, np.ndarray]
"""Records, and rows inside them, of the pairs of one batch; ascending, so that a record's pairs are neighbours."""


class SplitPairs:
    """The pairs of some records, by their number in the set.

    ``starts``: number of each record's first pair, one entry more than the set has records. ``records``: those of the split.
    ``lengths``: from a record to the real tokens of its captions. ``pairs``: use the first so many of a fixed shuffle, so
    that a smaller set lies inside every larger one; None uses all.
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
        """Numbers of the pairs that these records hold, record after record."""
        ranges = [(int(self.starts[record]), int(self.starts[record + 1])) for record in records]
        if self._selected is None:
            return np.concatenate([np.arange(first, last) for first, last in ranges])
        cuts = [np.searchsorted(self._selected, limits) for limits in ranges]
        return np.concatenate([self._selected[first:last] for first, last in cuts])

    def lengths(self, numbers: Int[np.ndarray, " pairs"]) -> Int[np.ndarray, " pairs"]:
        """Real tokens of the captions of these pairs."""
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

    Records are shuffled. Then, window by window, the pairs of ``window`` records and those left over from the window before
    are shuffled, all that fill global batches are taken, sorted by length (captions of one length stay shuffled) and cut
    into global batches, whose order is shuffled. A rank reads every ``world_size``-th pair of a global batch: ranks see
    captions of the same lengths, and their union is the batch that a single process with the whole global batch would see.
    What does not fill the epoch's last global batch waits for another epoch's shuffle.

    ``batch_size`` is that of one rank. ``group_by_length`` False leaves the sorting out.
    """

    def __init__(
        self,
        pairs: SplitPairs,
        batch_size: int,
        world_size: int = 1,
        window: int = 16,
        seed: int = 0,
        group_by_length: bool = True,
    ) -> None:
        self.pairs = pairs
        self.global_batch = batch_size * world_size
        self.world_size = world_size
        self.window = window
        self.seed = seed
        self.group_by_length = group_by_length
        if len(pairs) < self.global_batch:
            raise ValueError(
                f"{len(pairs)} training pairs do not fill one global batch of {self.global_batch} (batch_size {batch_size} "
                f"on each of {world_size} processes). Set data.batch_size to {len(pairs) // world_size} or less, or add pairs."
            )

    def __len__(self) -> int:
        """Batches of an epoch, the same on every rank."""
        return len(self.pairs) // self.global_batch

    def batches(self, epoch: int, rank: int = 0, start: int = 0) -> Iterator[Batch]:
        """The batches of ``rank`` in ``epoch``, without the first ``start``; of skipped windows nothing is read."""
        records = self._random(epoch).permutation(self.pairs.records)
        left_over = np.empty(0, dtype=np.int64)
        passed = 0
        for first in range(0, len(records), self.window):
            random = self._random(epoch, first)
            pool = np.concatenate([left_over, self.pairs.numbers(records[first : first + self.window])])
            random.shuffle(pool)
            count = len(pool) // self.global_batch
            taken, left_over = np.split(pool, [count * self.global_batch])
            if count and passed + count > start:
                if self.group_by_length:
                    taken = taken[np.argsort(self.pairs.lengths(taken), kind="stable")]
                shuffled = random.permutation(taken.reshape(count, self.global_batch))
                for batch in shuffled[max(0, start - passed) :, rank :: self.world_size]:
                    yield self.pairs.locate(np.sort(batch))
            passed += count

    def _random(self, *place: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *place])


class EvaluationOrder:
    """All pairs exactly once over the ranks; every rank has the same number of batches, none of them empty.

    Batches differ by at most one pair in size and hold at most ``batch_size`` pairs. (One a batch is not always possible
    with equal counts on several ranks; some batches then hold two.) Captions of similar length stand together.
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
        # sorted inside blocks, so that a batch touches few records of a large split
        blocks = np.arange(len(numbers)) // (16 * self.batch_size * self.world_size)
        numbers = numbers[np.lexsort((self.pairs.lengths(numbers), blocks))]
        pieces = len(self) * self.world_size
        bounds = np.arange(pieces + 1) * len(numbers) // pieces
        for piece in range(rank, pieces, self.world_size):
            yield self.pairs.locate(np.sort(numbers[bounds[piece] : bounds[piece + 1]]))
