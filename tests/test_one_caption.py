"""Several captions an image: with ``captions: one`` an epoch holds every image once."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from eclipse_pl.data.one_caption import OneCaption
from eclipse_pl.data.sampler import SplitPairs, TrainingOrder
from eclipse_pl.data.shard_set import ShardSet
from tests.helpers.recorder import SaveEverywhere, data_of, epochs_of, fit
from tests.helpers.shard_sets import make_chunk, make_shard_set, write_chunks


def order_of(sizes: list[int], groups: np.ndarray, one: bool = True, **options: int) -> TrainingOrder:
    """Records of the given sizes; ``groups`` holds the image of each pair."""
    starts = np.concatenate([[0], np.cumsum(sizes)])

    def lengths(record: int) -> np.ndarray:
        return np.random.default_rng(record).poisson(4, sizes[record]).astype(np.int16) + 9

    pairs = SplitPairs(starts, np.arange(len(sizes)), lengths)
    return TrainingOrder(pairs, **options, one_caption=OneCaption(np.arange(starts[-1]), groups) if one else None)


def epoch_of(order: TrainingOrder, epoch: int, rank: int = 0, start: int = 0) -> list[list[int]]:
    batches = order.batches(epoch, rank, start)
    return [(order.pairs.starts[records] + rows).tolist() for records, rows in batches]


@st.composite
def orders(draw: st.DrawFn) -> tuple[TrainingOrder, np.ndarray]:
    """Images whose captions lie in any of the records."""
    sizes = draw(st.lists(st.integers(1, 20), min_size=1, max_size=8))
    total = sum(sizes)
    groups = np.random.default_rng(draw(st.integers(0, 99))).integers(0, draw(st.integers(1, total)), total) * 2**40
    options = {"batch_size": draw(st.integers(1, 5)), "world_size": draw(st.integers(1, 3)), "window": draw(st.integers(1, 4))}
    assume(len(np.unique(groups)) >= options["batch_size"] * options["world_size"])
    return order_of(sizes, groups, seed=draw(st.integers(0, 5)), **options), groups


@given(orders(), st.integers(0, 3), st.data())
def test_an_epoch_holds_each_image_at_most_once(
    drawn: tuple[TrainingOrder, np.ndarray], epoch: int, data: st.DataObject
) -> None:
    order, groups = drawn
    images = len(np.unique(groups))
    ranks = [epoch_of(order, epoch, rank) for rank in range(order.world_size)]
    assert {len(batches) for batches in ranks} == {len(order)} == {images // order.global_batch}
    seen = [groups[number] for batches in ranks for batch in batches for number in batch]
    assert len(seen) == len(set(seen)) == len(order) * order.global_batch
    start = data.draw(st.integers(0, len(order)))
    assert epoch_of(order, epoch, start=start) == ranks[0][start:]
    assert epoch_of(order, epoch) == ranks[0]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8), st.integers(0, 3))
def test_images_with_one_caption_each_keep_their_order(sizes: list[int], epoch: int) -> None:
    groups = np.random.default_rng(0).permutation(sum(sizes))
    one, every = (order_of(sizes, groups, one, batch_size=1) for one in (True, False))
    assert epoch_of(one, epoch) == epoch_of(every, epoch)


def test_captions_are_drawn_evenly_and_anew() -> None:
    groups = np.repeat(np.arange(200), 5)
    draw = OneCaption(np.arange(1000), groups)
    epochs = [draw.drawn(3, epoch) for epoch in range(40)]
    assert len(draw) == 200 and all(groups[numbers].tolist() == list(range(200)) for numbers in epochs)
    counts = Counter(int(number) % 5 for numbers in epochs for number in numbers)
    assert all(1600 * 0.9 < counts[place] < 1600 * 1.1 for place in range(5))
    repeated = [(one == other).mean() for one, other in itertools.combinations(epochs, 2)]
    assert 0.17 < np.mean(repeated) < 0.23, "a fifth of the captions come again by chance"
    assert not np.array_equal(draw.drawn(3, 0), draw.drawn(4, 0))
    np.testing.assert_array_equal(draw.drawn(3, 7), epochs[7])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images of three captions; a record holds 16 pairs, so that images lie in two records."""
    rng, chunks = np.random.default_rng(0), []
    images = rng.normal(size=(40, 8))
    for first in range(0, 120, 16):
        rows = np.arange(first, min(first + 16, 120)) // 3
        chunk = make_chunk(rng, len(rows), 8, 6, first)
        chunk.image_embed, chunk.group, chunk.image_rows = images[rows], rows, rows - rows[0]
        chunks.append(chunk)
    return write_chunks(tmp_path_factory.mktemp("captions"), chunks)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.processes)])
def test_batches_of_the_data_module(folder: Path, workers: int) -> None:
    data = data_of(folder, captions="one", workers=workers)
    batches = list(epochs_of(data, 2))
    assert len(batches) == 2 * 5
    captions = []
    for epoch in (batches[:5], batches[5:]):
        groups = [group for batch in epoch for group in batch.group.tolist()]
        assert sorted(groups) == list(range(40))
        captions.append({number for batch in epoch for number in batch.index.tolist()})
    assert captions[0] != captions[1]
    assert sum(len(batch) for batch in epochs_of(data_of(folder), 1)) == 120
    assert sum(len(batch) for batch in data.single_pass()) == 120, "statistics are those of all captions"


def test_a_smaller_set_has_the_images_of_its_pairs(folder: Path) -> None:
    data = data_of(folder, captions="one", pairs=30)
    numbers = {number for batch in data.single_pass() for number in batch.index.tolist()}
    groups = {number // 3 for number in numbers}
    order = data.training_order(1)
    assert order.count == len(groups) < 30
    seen = [number for epoch in range(3) for batch in epoch_of(order, epoch) for number in batch]
    assert set(seen) <= numbers


def test_a_run_resumes_with_the_captions_of_its_epoch(folder: Path, tmp_path: Path) -> None:
    whole = fit(data_of(folder, captions="one"), callbacks=[SaveEverywhere(tmp_path)], max_epochs=2, limit_val_batches=0).seen
    assert len(whole) == 10
    for step in (2, 5, 7):
        resumed = fit(data_of(folder, captions="one"), tmp_path / f"step{step}.ckpt", max_epochs=2, limit_val_batches=0).seen
        assert resumed == whole[step:]
    with pytest.warns(UserWarning, match=r"order of the batches differs.*'captions': 'all'"):
        fit(data_of(folder), tmp_path / "step2.ckpt", max_epochs=1, limit_val_batches=0)


def test_fewer_images_than_one_batch(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"40 training images do not fill one global batch of 41.*add images"):
        data_of(folder, captions="one", batch_size=41).train_dataloader()
    alone = make_shard_set(tmp_path / "s", pairs=20)
    assert len(data_of(alone, captions="one").train_dataloader()) == len(ShardSet(alone)) // 8
