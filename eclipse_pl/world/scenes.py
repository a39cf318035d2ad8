"""Scenes: one to four coloured shapes on a grey image of 64 x 64 pixels. Everything is a function of a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np

COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "white")
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross")
TEXTURES = ("plain", "striped", "dotted", "checkered")
DIAMETER = {"small": 17, "large": 25}  # odd, so that a place is a pixel and shapes are symmetric about it
SIDE = 64
CATEGORIES = ("colour", "shape", "texture", "spatial", "numeracy", "complex")
RELATIONAL = ("spatial", "complex")

HELD_OUT = frozenset(
    {
        ("red", "star"),
        ("orange", "heart"),
        ("yellow", "cross"),
        ("green", "circle"),
        ("cyan", "triangle"),
        ("blue", "square"),
        ("purple", "heart"),
        ("white", "cross"),
    }
)
"""Colour-shape pairs that no training scene of the prior holds: every colour once, every shape at least once."""

GAP = 3  # pixels between the boxes of two objects, at least
MARGIN = 12  # pixels by which the distance along a relation's axis exceeds the other, so that no relation is in doubt


@dataclass(frozen=True)
class SceneObject:
    """One shape; ``x`` and ``y`` are its centre in pixels, ``y`` downward."""

    colour: str
    shape: str
    texture: str
    size: str
    x: int = 0
    y: int = 0

    @property
    def radius(self) -> int:
        return DIAMETER[self.size] // 2


Kind = tuple[str, str, str]
"""Colour, shape and texture: what makes objects alike."""


@dataclass(frozen=True)
class Scene:
    """Objects with their places. In relational scenes the first two stand in an unambiguous relation."""

    category: str
    objects: tuple[SceneObject, ...]

    @property
    def unseen(self) -> bool:
        """True if any object has a colour-shape pair that was held out of the prior's training scenes."""
        return any((thing.colour, thing.shape) in HELD_OUT for thing in self.objects)

    @property
    def split(self) -> str:
        """``train``, ``val`` or ``test``, by a hash of the bag of attributes.

        Scenes that differ in binding, size or place alone share it, so no caption, no scene and no counterpart of one
        split can occur in another, whatever the seeds.
        """
        bag = [sorted(part) for part in (*zip(*self.kinds, strict=True), map(len, self.kinds.values()))]
        return ("test", "val", "train", "train", "train")[sha256(repr(bag).encode()).digest()[0] % 5]

    @property
    def relation(self) -> str | None:
        """Of the first object to the second, in relational scenes."""
        return relation(self.objects[0], self.objects[1]) if self.category in RELATIONAL else None

    @property
    def kinds(self) -> dict[Kind, list[SceneObject]]:
        """Like objects together, in the order of the scene; a kind has one size."""
        kinds: dict[Kind, list[SceneObject]] = {}
        for thing in self.objects:
            kinds.setdefault((thing.colour, thing.shape, thing.texture), []).append(thing)
        return kinds

    @property
    def content(self) -> tuple[object, ...]:
        """What any full caption says, without sizes: how many of each kind, and the relation with its two sides."""
        counts = sorted((kind, len(things)) for kind, things in self.kinds.items())
        sides = [(thing.colour, thing.shape) for thing in self.objects[:2]] if self.relation else []
        if self.relation in ("right", "below"):
            sides.reverse()
        axis = {"left": "row", "right": "row", "above": "column", "below": "column"}.get(self.relation or "")
        return (*counts, axis, *sides)


def relation(first: SceneObject, second: SceneObject, margin: int = MARGIN) -> str | None:
    """``left``, ``right``, ``above`` or ``below``: where ``first`` is, seen from ``second``. None where it is in doubt."""
    dx, dy = first.x - second.x, first.y - second.y
    if abs(abs(dx) - abs(dy)) < margin:
        return None
    if abs(dx) > abs(dy):
        return "left" if dx < 0 else "right"
    return "above" if dy < 0 else "below"


def draw_scene(category: str, seed: tuple[int, ...], accept: Callable[[Scene], bool] = lambda scene: True) -> Scene:
    """A scene of a category, a pure function of its seed; drawn again until ``accept`` (which sees no places) is content."""
    if category not in CATEGORIES:
        raise ValueError(f"There is no category {category!r} in the world. Its categories are {', '.join(CATEGORIES)}.")
    rng = np.random.Generator(np.random.PCG64(list(seed)))
    for _ in range(10_000):
        scene = Scene(category, _draw_objects(category, rng))
        if accept(scene):
            return _place(scene, rng)
    raise ValueError(
        f"The world holds too few different scenes of category {category!r} for this request: ask for fewer pairs or prompts."
    )


def counterpart(scene: Scene) -> Scene | None:
    """The scene with one attribute, or the places, swapped between two of its objects; None where no swap changes a caption.

    The first swap is the category's own (colours in ``colour`` ...); in ``numeracy`` whole groups of like objects swap.
    """
    groups = list(dict.fromkeys(replace(thing, x=0, y=0) for thing in scene.objects))
    first = {"spatial": "place", "complex": "place", "numeracy": "colour"}.get(scene.category, scene.category)
    for part in dict.fromkeys([first, "colour", "shape", "texture"]):
        for i, one in enumerate(groups):
            for other in groups[i + 1 :]:
                swapped = _swap_places(scene) if part == "place" else _swap(scene, one, other, part)
                if swapped is not None and swapped.content != scene.content:
                    return swapped
    return None


def _swap(scene: Scene, one: SceneObject, other: SceneObject, part: str) -> Scene | None:
    exchange = {one: getattr(other, part), other: getattr(one, part)}
    objects = [
        replace(thing, **{part: exchange[kind]}) if (kind := replace(thing, x=0, y=0)) in exchange else thing
        for thing in scene.objects
    ]
    kinds = {replace(thing, x=0, y=0) for thing in objects}
    # Two groups that now share colour and shape could not be told apart in a caption.
    return Scene(scene.category, tuple(objects)) if len({(k.colour, k.shape) for k in kinds}) == len(kinds) else None


def _swap_places(scene: Scene) -> Scene | None:
    first, second, *rest = scene.objects
    moved = (_inside(replace(first, x=second.x, y=second.y)), _inside(replace(second, x=first.x, y=first.y)))
    swapped = Scene(scene.category, (*moved, *rest))
    apart = all(_apart(a, b) for i, a in enumerate(swapped.objects) for b in swapped.objects[:i])
    return swapped if apart and swapped.relation else None


def _inside(thing: SceneObject) -> SceneObject:
    low, high = thing.radius + 1, SIDE - 2 - thing.radius
    return replace(thing, x=min(max(thing.x, low), high), y=min(max(thing.y, low), high))


def _apart(one: SceneObject, other: SceneObject) -> bool:
    reach = one.radius + other.radius + GAP
    return max(abs(one.x - other.x), abs(one.y - other.y)) > reach


def _draw_objects(category: str, rng: np.random.Generator) -> tuple[SceneObject, ...]:
    """Attributes without places. No two kinds of object share colour and shape, so that a caption can name each."""
    shares = {"colour": (0.1, 0.5, 0.4), "shape": (0.1, 0.5, 0.4), "complex": (0, 0.5, 0.35, 0.15), "numeracy": (0.3, 0.7)}
    kinds = 1 + int(rng.choice(len(share := shares.get(category, (0, 1))), p=share))
    shapes = rng.permutation(len(SHAPES))[:kinds]
    same = category == "shape"  # here colours may repeat; elsewhere each object has its own
    colours = rng.integers(len(COLOURS), size=kinds) if same else rng.permutation(len(COLOURS))[:kinds]
    if category in ("colour", "shape"):
        textures: np.ndarray = np.repeat(rng.integers(len(TEXTURES)) * (rng.random() < 0.5), kinds)
    elif category == "texture":
        textures = rng.permutation(len(TEXTURES))[:kinds]
    else:
        textures = rng.integers(len(TEXTURES), size=kinds) * (rng.random(kinds) < 0.5)
    counts = [1] * kinds
    if category == "numeracy":
        counts = [int(rng.integers(2, 5))] if kinds == 1 else [[2, 1], [3, 1], [2, 2]][rng.integers(3)]
    total = sum(counts)
    large = rng.random(kinds) < 0.5
    if total > 2:  # four large objects would fill the image: one at most
        large &= (np.arange(kinds) == rng.integers(kinds)) & (np.array(counts) == 1)
    return tuple(
        SceneObject(COLOURS[colours[k]], SHAPES[shapes[k]], TEXTURES[textures[k]], ("small", "large")[int(large[k])])
        for k in range(kinds)
        for _ in range(counts[k])
    )


def _place(scene: Scene, rng: np.random.Generator) -> Scene:
    while True:
        placed: list[SceneObject] = []
        for thing in scene.objects:
            for x, y in rng.integers(thing.radius + 1, SIDE - 1 - thing.radius, size=(20, 2)).tolist():
                here = replace(thing, x=x, y=y)
                related = scene.category not in RELATIONAL or len(placed) != 1 or relation(placed[0], here)
                if related and all(_apart(here, other) for other in placed):
                    placed.append(here)
                    break
            else:
                break
        if len(placed) == len(scene.objects):
            return Scene(scene.category, tuple(placed))
