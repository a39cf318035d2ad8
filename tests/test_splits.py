"""Splits: disjoint in captions and content, with any seeds; held-out pairs stay out of training."""

from __future__ import annotations

from itertools import islice

import pytest

from eclipse_pl.world.scenes import CATEGORIES
from eclipse_pl.world.splits import encoder_scenes, held_out_scenes, training_scenes


@pytest.mark.long
def test_splits_share_no_caption_and_no_content() -> None:
    train, val = list(training_scenes(2000, seed=0)), list(held_out_scenes("val", 300, seed=1))
    test = list(held_out_scenes("test", 300, seed=0))
    for one, other in ((train, val), (train, test), (val, test)):
        assert not {pair.caption for pair in one} & {pair.caption for pair in other}
        assert not {pair.scene.content for pair in one} & {pair.scene.content for pair in other}
        assert not {pair.caption for pair in one} & {pair.negative_caption for pair in other}
        assert not {pair.scene.content for pair in one} & {pair.negative.content for pair in other if pair.negative}


@pytest.mark.long
def test_training_never_shows_a_held_out_pair() -> None:
    assert not any(pair.scene.unseen or pair.negative for pair in training_scenes(1000))


@pytest.mark.long
def test_held_out_splits_are_balanced_and_distinct() -> None:
    pairs = list(held_out_scenes("test", 240))
    assert [pair.scene.category for pair in pairs[:6]] == list(CATEGORIES)
    assert sum(pair.subset == "unseen" for pair in pairs) == 120
    assert len({frozenset(pair.scene.kinds) for pair in pairs}) == len({pair.caption for pair in pairs}) == 240
    assert sum(pair.negative is not None for pair in pairs) > 200
    assert all((pair.negative is None) == (pair.negative_caption is None) for pair in pairs)


@pytest.mark.long
def test_a_longer_run_begins_like_a_shorter_one() -> None:
    assert list(training_scenes(50, 3)) == list(training_scenes(80, 3))[:50]
    assert list(training_scenes(50, 3)) != list(training_scenes(50, 4))
    assert list(held_out_scenes("val", 50, 3)) == list(held_out_scenes("val", 80, 3))[:50]


@pytest.mark.long
def test_the_encoder_never_sees_the_test_split() -> None:
    drawn = list(islice(encoder_scenes(), 1000))
    assert {pair.scene.split for pair in drawn} == {"train", "val"}
    assert {pair.subset for pair in drawn} == {"seen", "unseen"}


@pytest.mark.long
def test_a_world_of_part_of_the_colours() -> None:
    warm = ("red", "orange", "yellow", "purple")
    for pairs in (list(training_scenes(60, colours=warm)), list(held_out_scenes("val", 60, colours=warm))):
        assert {thing.colour for pair in pairs for thing in pair.scene.objects} == set(warm)
    with pytest.raises(ValueError, match="The world has no colour 'pink'; it has red"):
        next(training_scenes(1, colours=("red", "pink")))
    with pytest.raises(ValueError, match="3 colours are too few"):
        next(held_out_scenes("val", 1, colours=warm[:3]))


def test_unknown_split() -> None:
    with pytest.raises(ValueError, match=r"'tset' is not one of the held-out splits, val and test"):
        next(held_out_scenes("tset", 1))
