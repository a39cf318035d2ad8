"""Scenes: a function of the seed, nothing overlaps, no relation is ambiguous, counterparts differ and stay in their split."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eclipse_pl.world.captions import describe
from eclipse_pl.world.scenes import (
    CATEGORIES,
    COLOURS,
    GAP,
    HELD_OUT,
    MARGIN,
    RELATIONAL,
    SHAPES,
    SIDE,
    SceneObject,
    counterpart,
    draw_scene,
    relation,
)

# Scenes are drawn inside the tests: beartype uses `random`, which strategies must not.
seeds = st.tuples(st.sampled_from(CATEGORIES), st.integers(0, 2**32))


@given(st.sampled_from(CATEGORIES), st.integers(0, 2**32), st.integers(0, 9))
def test_a_scene_is_a_function_of_its_seed(category: str, seed: int, number: int) -> None:
    assert draw_scene(category, (seed, number)) == draw_scene(category, (seed, number))


def test_seeds_give_different_scenes() -> None:
    assert len({draw_scene(category, (0, i)) for category in CATEGORIES for i in range(100)}) == 600


@given(seeds)
def test_objects_lie_inside_and_apart(seed: tuple[str, int]) -> None:
    scene = draw_scene(seed[0], seed[1:])
    assert 1 <= len(scene.objects) <= 4
    for i, thing in enumerate(scene.objects):
        assert thing.radius < thing.x < SIDE - 1 - thing.radius
        assert thing.radius < thing.y < SIDE - 1 - thing.radius
        for other in scene.objects[:i]:
            gap = max(abs(thing.x - other.x), abs(thing.y - other.y)) - thing.radius - other.radius - 1
            assert gap >= GAP


@given(seeds)
def test_colour_and_shape_distinguish_kinds(seed: tuple[str, int]) -> None:
    scene = draw_scene(seed[0], seed[1:])
    assert len({kind[:2] for kind in scene.kinds}) == len(scene.kinds)
    assert all(len({thing.size for thing in things}) == 1 for things in scene.kinds.values())


@given(st.tuples(st.sampled_from(RELATIONAL), st.integers(0, 2**32)))
def test_relations_have_a_margin(seed: tuple[str, int]) -> None:
    scene = draw_scene(seed[0], seed[1:])
    first, second = scene.objects[:2]
    dx, dy = first.x - second.x, first.y - second.y
    assert abs(abs(dx) - abs(dy)) >= MARGIN
    assert scene.relation == ("left" if dx < 0 else "right" if abs(dx) > abs(dy) else "above" if dy < 0 else "below") or (
        abs(dy) > abs(dx) and scene.relation == ("above" if dy < 0 else "below")
    )


def test_relation_of_known_places() -> None:
    centre = SceneObject("red", "circle", "plain", "small", 30, 30)
    places = {"left": (10, 33), "right": (50, 25), "above": (30, 10), "below": (36, 50), None: (45, 45)}
    for name, (x, y) in places.items():
        assert relation(SceneObject("blue", "star", "plain", "small", x, y), centre) == name


@given(seeds)
def test_a_counterpart_says_something_else_and_stays_in_its_split(seed: tuple[str, int]) -> None:
    scene = draw_scene(seed[0], seed[1:])
    other = counterpart(scene)
    if other is None:
        assert len(scene.kinds) == 1 or scene.category in ("colour", "shape", "numeracy")
        return
    assert (other.split, other.category) == (scene.split, scene.category)
    assert describe(other, 1) != describe(scene, 1)
    for part in ("colour", "shape", "texture", "size"):
        values = [Counter(kind) for kind in zip(*other.kinds, strict=True)]
        assert values == [Counter(kind) for kind in zip(*scene.kinds, strict=True)], part


def test_most_scenes_have_a_counterpart() -> None:
    drawn = [draw_scene(CATEGORIES[i % 6], (5, i)) for i in range(600)]
    assert sum(counterpart(scene) is not None for scene in drawn) > 500
    assert all(counterpart(scene) for scene in drawn if scene.category in ("texture", *RELATIONAL))


def test_held_out_pairs_cover_every_colour_once_and_every_shape() -> None:
    assert len(HELD_OUT) == 8
    assert {colour for colour, _ in HELD_OUT} == set(COLOURS)
    assert {shape for _, shape in HELD_OUT} == set(SHAPES)


def test_every_category_keeps_what_it_is_about() -> None:
    for i in range(200):
        textures = draw_scene("texture", (1, i))
        assert len({thing.texture for thing in textures.objects}) == 2
        assert len({thing.texture for thing in draw_scene("colour", (1, i)).objects}) == 1
        assert max(map(len, draw_scene("numeracy", (1, i)).kinds.values())) >= 2


def test_unknown_category() -> None:
    with pytest.raises(ValueError, match=r"no category 'color'.*colour, shape"):
        draw_scene("color", (0,))


@pytest.mark.long
def test_an_impossible_wish_ends() -> None:
    with pytest.raises(ValueError, match="too few different scenes"):
        draw_scene("shape", (0,), lambda scene: False)
