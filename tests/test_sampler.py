from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from eclipse_pl.data.sampler import EvaluationOrder, SplitPairs, TrainingOrder


def split_of(
    sizes: list[int], pairs: int | None = None, every: int = 1, read: Callable[[int], None] = lambda record: None
) -> SplitPairs:
    """Records of the given sizes; every ``every``-th belongs to the split. Lengths are those of MSCOCO captions, roughly."""
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def lengths(record: int) -> np.ndarray:
        read(record)
        return np.random.default_rng(record).poisson(4, sizes[record]).astype(np.int16) + 9

    return SplitPairs(starts, np.arange(0, len(sizes), every), lengths, pairs)


def numbers_of(split: SplitPairs, batches: list[tuple[np.ndarray, np.ndarray]]) -> list[list[int]]:
    return [(split.starts[records] + rows).tolist() for records, rows in batches]


record_sizes = st.lists(st.integers(1, 30), min_size=1, max_size=12)


@st.composite
def training_orders(draw: st.DrawFn) -> TrainingOrder:
    split = split_of(draw(record_sizes), every=draw(st.integers(1, 2)))
    subset = draw(st.none() | st.integers(1, len(split)))
    split = split_of(np.diff(split.starts).tolist(), subset, every=2 if len(split.records) < len(split.starts) - 1 else 1)
    world_size, batch_size = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    assume(len(split) >= world_size * batch_size)
    return TrainingOrder(
        split, batch_size, world_size, draw(st.integers(1, 5)), draw(st.integers(0, 9)), group_by_length=draw(st.booleans())
    )


@pytest.mark.long
@given(training_orders(), st.integers(0, 3))
def test_an_epoch_is_a_permutation_but_for_its_remainder(order: TrainingOrder, epoch: int) -> None:
    split = order.pairs
    everything = set(split.numbers(split.records).tolist())
    ranks = [numbers_of(split, list(order.batches(epoch, rank))) for rank in range(order.world_size)]
    assert {len(batches) for batches in ranks} == {len(order)} == {len(split) // order.global_batch}
    assert {len(batch) for batches in ranks for batch in batches} == {order.global_batch // order.world_size}
    seen = [number for batches in ranks for batch in batches for number in batch]
    assert len(seen) == len(set(seen)) == len(order) * order.global_batch
    assert set(seen) <= everything and len(everything) == len(split)


@given(training_orders(), st.integers(0, 3))
def test_the_union_over_ranks_is_the_batch_of_one_process(order: TrainingOrder, epoch: int) -> None:
    alone = TrainingOrder(order.pairs, order.global_batch, 1, order.window, order.seed, order.group_by_length)
    ranks = [numbers_of(order.pairs, list(order.batches(epoch, rank))) for rank in range(order.world_size)]
    together = [sorted(itertools.chain(*batches)) for batches in zip(*ranks, strict=True)]
    assert together == numbers_of(order.pairs, list(alone.batches(epoch)))


@given(training_orders(), st.integers(0, 3), st.data())
def test_skipping_batches_leaves_the_rest_as_it_was(order: TrainingOrder, epoch: int, data: st.DataObject) -> None:
    whole = numbers_of(order.pairs, list(order.batches(epoch)))
    start = data.draw(st.integers(0, len(whole)))
    assert numbers_of(order.pairs, list(order.batches(epoch, start=start))) == whole[start:]


@given(training_orders())
def test_pairs_of_a_record_are_neighbours(order: TrainingOrder) -> None:
    for records, rows in order.batches(0):
        assert (np.diff(order.pairs.starts[records] + rows) > 0).all()


def test_epochs_and_seeds_differ() -> None:
    orders = [TrainingOrder(split_of([50] * 20), 10, seed=seed) for seed in (0, 1)]
    epochs = [str(numbers_of(order.pairs, list(order.batches(epoch)))) for order in orders for epoch in range(3)]
    assert len(set(epochs)) == 6
    again = TrainingOrder(split_of([50] * 20), 10, seed=0)
    assert str(numbers_of(again.pairs, list(again.batches(2)))) == epochs[2]


def test_the_order_is_the_same_everywhere() -> None:
    """A constant: checkpoints of one machine go on on another. A change of numpy that broke it would show here."""
    order = TrainingOrder(split_of([4, 3, 5, 2]), 3, window=2, seed=7)
    assert numbers_of(order.pairs, list(order.batches(1))) == [[3, 8, 9], [0, 1, 7], [2, 10, 11], [4, 5, 13]]


def lengths_of(split: SplitPairs, batch: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    records, rows = batch
    return split.lengths(split.starts[records] + rows)


def padding(split: SplitPairs, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """Share of padding, were the captions of each batch padded to the longest."""
    padded = real = 0
    for batch in batches:
        lengths = lengths_of(split, batch)
        padded += len(lengths) * int(lengths.max())
        real += int(lengths.sum())
    return 1 - real / padded


def test_batches_of_similar_length_need_little_padding() -> None:
    split = split_of([200] * 32)
    grouped, mixed = (TrainingOrder(split, 32, 2, 8, group_by_length=group) for group in (True, False))
    assert padding(split, mixed.batches(0)) > 0.25
    assert max(padding(split, grouped.batches(0, rank)) for rank in (0, 1)) < 0.06
    evaluated = EvaluationOrder(split, 32, 2)
    assert max(padding(split, evaluated.batches(rank)) for rank in (0, 1)) < 0.06


def test_ranks_see_captions_of_the_same_lengths() -> None:
    split = split_of([64])
    order = TrainingOrder(split, 32, 2)
    (one,), (other,) = (list(order.batches(0, rank)) for rank in (0, 1))
    shorter, longer = (np.sort(lengths_of(split, batch)) for batch in (one, other))
    assert (shorter <= longer).all() and (longer[:-1] <= shorter[1:]).all() and longer[-1] > shorter[0] + 5


def test_an_evaluation_batch_touches_few_records() -> None:
    order = EvaluationOrder(split_of([40] * 60), 8)
    assert max(len(set(records)) for records, _ in order.batches()) <= 5  # 16 batches of 8 pairs are sorted together


def test_lengths_of_skipped_windows_are_not_read() -> None:
    touched: list[int] = []
    order = TrainingOrder(split_of([40] * 30, read=touched.append), 10, window=3)
    list(order.batches(0))
    assert set(touched) == set(range(30))
    touched.clear()
    next(order.batches(0, start=len(order) - 1))
    assert len(set(touched)) <= 3  # the last window; nothing is left over from the ones before, because 10 divides 120
    touched.clear()
    next(order.batches(0, start=12))  # the first batch of the second window
    assert len(set(touched)) == 3


def test_fewer_pairs_than_one_batch() -> None:
    with pytest.raises(
        ValueError, match=r"20 training pairs do not fill one global batch of 24 .batch_size 12 on each of 2.*to 10"
    ):
        TrainingOrder(split_of([10, 10]), 12, 2)


@given(record_sizes, st.data())
def test_smaller_sets_lie_inside_larger_ones(sizes: list[int], data: st.DataObject) -> None:
    small, large = sorted(data.draw(st.lists(st.integers(1, sum(sizes)), min_size=2, max_size=2)))
    inner, outer = ({*split.numbers(split.records).tolist()} for split in (split_of(sizes, small), split_of(sizes, large)))
    assert (len(inner), len(outer)) == (small, large)
    assert inner <= outer <= set(range(sum(sizes)))


def test_a_smaller_set_is_drawn_from_everywhere() -> None:
    split = split_of([100] * 50, 500)
    records, _ = split.locate(split.numbers(split.records))
    assert len(set(records.tolist())) == 50


@pytest.mark.parametrize("pairs", [0, 21])
def test_pairs_that_are_not_there(pairs: int) -> None:
    with pytest.raises(ValueError, match=f"pairs is {pairs}, but there are 20 training pairs; give 1 to 20"):
        split_of([10, 10], pairs)


@given(record_sizes, st.integers(1, 9), st.integers(1, 4))
def test_evaluation_sees_every_pair_once(sizes: list[int], batch_size: int, world_size: int) -> None:
    split = split_of(sizes)
    assume(len(split) >= world_size)
    order = EvaluationOrder(split, batch_size, world_size)
    ranks = [numbers_of(split, list(order.batches(rank))) for rank in range(world_size)]
    assert {len(batches) for batches in ranks} == {len(order)}
    counts = [len(batch) for batches in ranks for batch in batches]
    assert min(counts) >= 1 and max(counts) - min(counts) <= 1
    assert max(counts) <= max(batch_size, 2 if world_size > 1 else 1)
    assert sorted(number for batches in ranks for batch in batches for number in batch) == list(range(sum(sizes)))


def test_evaluation_with_more_processes_than_pairs() -> None:
    with pytest.raises(ValueError, match=r"3 pairs cannot be evaluated on 4 processes"):
        EvaluationOrder(split_of([3]), 8, 4)


@given(training_orders(), st.integers(0, 3), st.data())
def test_records_in_the_order_of_their_use(order: TrainingOrder, epoch: int, data: st.DataObject) -> None:
    """From any batch on: each record of the later windows, window by window, and then those of the next epoch."""
    start = data.draw(st.integers(0, len(order) - 1))
    later = order.records(epoch, start)
    used: list[int] = []
    named: list[int] = []
    # Of the records up to a window, those are unused whose pairs all lie in that window, in the first one before ``start``, or
    # in the rest of earlier ones.
    most_unused = 2 * order.window + order.global_batch - 1
    for records, _ in order.batches(epoch, 0, start):
        used += sorted(set(records.tolist()) - set(used))
        named += itertools.islice(later, max(0, len(used) + most_unused - len(named)))
        # a record that is not named is the rest of a window before this one
        early = set(used) - set(map(int, named))
        assert not start or len(early) < order.global_batch
        assert start or not early
    following = order.records(epoch + 1)
    whole = list(itertools.islice(order.records(epoch), 50))
    first = len({int(record) for record in order.pairs.records if order.pairs.counts(np.array([record]))[0]})
    assert sorted(map(int, whole[:first])) == sorted(set(map(int, whole)))
    assert whole[first:] == list(itertools.islice(following, 50 - first))
