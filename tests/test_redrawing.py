"""Redrawing: pairs of scene and caption are as likely when the scene is drawn anew for the caption."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
import pytest

from eclipse_pl.world import redrawing
from eclipse_pl.world.captions import describe, fits, parse
from eclipse_pl.world.redrawing import Redrawing, shares_of_split
from eclipse_pl.world.scenes import CATEGORIES, COLOURS, RELATIONAL, SHAPES, Scene, draw_scene
from eclipse_pl.world.splits import held_out_scenes


def drawn(split: str, number: int) -> Scene:
    unseen = split != "train" and bool(number // len(CATEGORIES) % 2)
    category = CATEGORIES[number % len(CATEGORIES)]
    return draw_scene(category, (5, number), lambda scene: scene.split == split and scene.unseen == unseen)


def facts(scene: Scene) -> list[float]:
    kinds, groups = list(scene.kinds), list(scene.kinds.values())
    return [
        *(scene.category == category for category in CATEGORIES),
        scene.unseen,
        len(kinds),
        len(scene.objects),
        sum(texture == "plain" for *_, texture in kinds),
        sum(group[0].size == "large" for group in groups),
        scene.relation == "left",
        scene.relation is None,
        *(any(shape == one for _, one, _ in kinds) for shape in SHAPES[:2]),
        any(colour == "red" for colour, *_ in kinds),
        kinds[0][2] == "dotted",
        groups[0][0].size == "large",
    ]


def said(caption: str) -> list[float]:
    content = parse(caption, vague=True)
    first = content.phrases[0]
    unsaid = [(phrase.texture is None, phrase.colour is None) for phrase in content.phrases]
    return [1, len(unsaid), content.relation is not None, first.size is not None, first.count > 1, *np.sum(unsaid, 0)]


@pytest.mark.long
@pytest.mark.parametrize(("split", "detail"), [("val", 0.5), ("train", 0.3)])
def test_scenes_drawn_anew_are_as_frequent_as_scenes(split: str, detail: float) -> None:
    """Bayes' rule: (scene, caption) and (another scene drawn for it, caption) have one distribution, so equal moments."""
    redrawing, n = Redrawing(split, detail), 90
    apart = []
    for number in range(n):
        scene = drawn(split, number)
        caption = describe(scene, number, detail)
        (again,) = redrawing.scenes(caption, 1, (number,))
        assert again.split == split and (split != "train" or not again.unseen)
        assert fits(parse(caption, vague=True), again.objects)
        apart.append(np.outer(said(caption), np.subtract(facts(again), facts(scene))).ravel())
    means, errors = np.mean(apart, 0), np.std(apart, 0) / np.sqrt(n)
    worst = np.abs(means[errors > 0] / errors[errors > 0])
    assert worst.max() < 4.2 and np.sqrt((worst**2).mean()) < 1.5


def test_shares_of_a_split_are_those_of_its_draws() -> None:
    from eclipse_pl.world.scenes import _draw_objects

    rng, n = np.random.default_rng(0), 1000
    for category in ("texture", "numeracy"):
        scenes = [Scene(category, _draw_objects(category, rng)) for _ in range(n)]
        counted = Counter((scene.split, scene.unseen) for scene in scenes)
        for split in ("train", "val"):
            for unseen, share in shares_of_split(category, split, frozenset(COLOURS)).items():
                assert counted[split, unseen] / n == pytest.approx(share, abs=4 * np.sqrt(share / n)), (category, split)


@pytest.mark.parametrize(("category", "most"), [("colour", 3), ("numeracy", 2), ("spatial", 2), ("complex", 4)])
def test_the_chances_of_all_orders_of_the_kinds_sum_to_one(category: str, most: int) -> None:
    """A caption names one kind or more, in one order, with a relation or without."""
    redrawn = Redrawing("val", 0.4)
    for kinds in range(2 if category in RELATIONAL else 1, most + 1):
        orders = [slots for named in range(1, kinds + 1) for slots in permutations(range(kinds), named)]
        chances = [redrawn._order(category, kinds, slots, related) for slots in orders for related in (False, True)]
        assert sum(chances) == pytest.approx(1) and min(chances) >= 0


def test_a_full_caption_leaves_the_places_and_a_vague_one_the_rest() -> None:
    pair = next(pair for pair in held_out_scenes("val", 12) if pair.scene.category == "complex")
    full = Redrawing("val").scenes(pair.caption, 6, (0,))
    assert {frozenset(scene.kinds) for scene in full} == {frozenset(pair.scene.kinds)}
    assert len({scene.objects for scene in full}) == 6
    vague = Redrawing("val", 0.25).scenes("two stars", 24, (0,))
    assert all(sum(thing.shape == "star" for thing in scene.objects) == 2 for scene in vague)
    assert len({thing.colour for scene in vague for thing in scene.objects}) > 4
    assert vague[:5] == Redrawing("val", 0.25).scenes("two stars", 5, (0,)), "a function of the arguments"
    few = Redrawing("val", 0.25, COLOURS[:4]).scenes("two stars", 12, (1,))
    assert {thing.colour for scene in few for thing in scene.objects} <= set(COLOURS[:4])


@pytest.mark.parametrize("caption", ["a star", "a red star and a blue star", "two red stars above a blue circle"])
def test_a_caption_that_no_scene_has_is_refused(caption: str) -> None:
    with pytest.raises(ValueError, match="No scene of the val split has the caption"):
        Redrawing("val").scenes(caption, 1, (0,))


def test_the_scenes_of_a_rare_caption_are_all_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is one of the search for a scene, not of all scenes together."""
    caption = "a small circle right of a small red star"
    monkeypatch.setattr(redrawing, "TRIES", 6_400)
    proposed = []
    propose = Redrawing._propose
    monkeypatch.setattr(Redrawing, "_propose", lambda self, *of: proposed.append(of) or propose(self, *of))
    assert len(Redrawing("val", 0.75).scenes(caption, 20, (0,))) == 20
    assert len(proposed) > 6_400
