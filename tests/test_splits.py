"""Splits: disjoint in captions and content, with any seeds; held-out pairs stay out of training."""

from __future__ import annotations

from hashlib import sha256
from itertools import islice

import pytest

from eclipse_pl.world.captions import fits, parse
from eclipse_pl.world.nearest_scenes import NearestScenes
from eclipse_pl.world.prompts import prompt_scenes
from eclipse_pl.world.scenes import CATEGORIES, HELD_OUT
from eclipse_pl.world.splits import encoder_scene, encoder_scenes, held_out_scenes, training_scenes


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
def test_hard_negatives_of_training_are_compositions_of_training() -> None:
    plain, pairs = list(training_scenes(600)), list(training_scenes(600, negatives=True))
    assert [(pair.scene, pair.caption) for pair in pairs] == [(pair.scene, pair.caption) for pair in plain]
    negatives = [pair.negative for pair in pairs if pair.negative]
    assert 300 < len(negatives) < 600
    assert {(scene.split, scene.unseen) for scene in negatives} == {("train", False)}
    assert all(pair.negative_caption != pair.caption for pair in pairs)


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


def test_streams_of_one_seed_have_no_scene_in_common() -> None:
    streams = [
        [pair.scene for pair in training_scenes(30)],
        [pair.scene for split in ("val", "test") for pair in held_out_scenes(split, 30)],
        [encoder_scene(i) for i in range(30)],
        [NearestScenes(1).scene(i) for i in range(30)],
        [scene for category in CATEGORIES for scene in prompt_scenes(category, "seen", 5)],
    ]
    assert len({scene for stream in streams for scene in stream}) == 6 * 30


@pytest.mark.long
def test_a_world_of_part_of_the_colours() -> None:
    warm = ("red", "orange", "yellow", "purple")
    for pairs in (list(training_scenes(60, colours=warm)), list(held_out_scenes("val", 60, colours=warm))):
        assert {thing.colour for pair in pairs for thing in pair.scene.objects} == set(warm)
    with pytest.raises(ValueError, match="The world has no colour 'pink'; it has red"):
        next(training_scenes(1, colours=("red", "pink")))
    with pytest.raises(ValueError, match="3 colours are too few"):
        next(held_out_scenes("val", 1, colours=warm[:3]))


def test_the_world_at_detail_1_never_changes() -> None:
    """Runs and shipped models belong to these scenes and captions."""
    digest = sha256()
    for pair in (*training_scenes(200), *held_out_scenes("val", 60), *held_out_scenes("test", 60)):
        assert pair.at_detail(1.0) == pair
        digest.update(repr((pair.scene, pair.caption, pair.negative, pair.negative_caption, pair.subset)).encode())
    assert digest.hexdigest() == "4bdb379d926da6d7faeeef251b7de48887bc8f0c7a7feba11780f872f7eb5dfb"


@pytest.mark.long
def test_vague_captions_keep_scenes_and_lose_hard_negatives_that_they_describe() -> None:
    full = list(held_out_scenes("val", 240))
    vague = [pair.at_detail(0.5, number) for pair in full for number in (0, 1)]
    assert [pair.scene for pair in vague] == [pair.scene for pair in full for _ in (0, 1)]
    lost = untrue = 0
    for pair, whole in zip(vague, (pair for pair in full for _ in (0, 1)), strict=True):
        said = parse(pair.caption, vague=True)
        assert fits(said, pair.scene.objects)
        if whole.negative is not None and fits(said, whole.negative.objects):
            lost += 1
            assert pair.negative is None and pair.negative_caption is None
        else:
            assert pair.negative == whole.negative
        if pair.negative and not pair.negative_caption:
            assert pair.scene.category == "texture"
            untrue += 1
        if pair.negative_caption:
            assert not fits(parse(pair.negative_caption, vague=True), pair.scene.objects), "it does not describe the scene"
            assert fits(parse(pair.negative_caption, vague=True), pair.negative.objects)  # type: ignore[union-attr]
            assert pair.negative_caption != pair.caption
    assert 0.3 * len(vague) < lost < 0.7 * len(vague) and 0 < untrue < 0.1 * len(vague)


@pytest.mark.long
def test_unseen_is_what_the_caption_names() -> None:
    pairs = [pair.at_detail(0.5) for pair in held_out_scenes("val", 240)]
    named = {
        kind: [
            any((phrase.colour, phrase.shape) in HELD_OUT for phrase in parse(pair.caption).phrases)
            for pair in pairs
            if pair.subset == kind
        ]
        for kind in ("seen", "unseen", "unsaid")
    }
    assert len(named["seen"]) == 120 and not any(named["seen"])
    assert len(named["unseen"]) > 20 and all(named["unseen"])
    assert len(named["unsaid"]) > 20 and not any(named["unsaid"])
    assert all(pair.scene.unseen for pair in pairs if pair.subset == "unsaid")
    trained = [pair.at_detail(0.5, number) for pair in training_scenes(300) for number in range(3)]
    assert not any((p.colour, p.shape) in HELD_OUT for pair in trained for p in parse(pair.caption).phrases)


def test_unknown_split() -> None:
    with pytest.raises(ValueError, match=r"'tset' is not one of the held-out splits, val and test"):
        next(held_out_scenes("tset", 1))
