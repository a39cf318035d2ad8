"""Scenes: one to four coloured shapes on a grey image of 64 x 64 pixels. A scene is a function of its seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np

COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "white")
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross")
TEXTURES = ("plain", "striped", "dotted", "checkered")
DIAMETER = {"small": 17, "large": 25}  # odd, so that the centre is a pixel and shapes are symmetric about it
SIDE = 64
CATEGORIES = ("colour", "shape", "texture", "spatial", "numeracy", "complex")
RELATIONAL = ("spatial", "complex")

KINDS = {
    "colour": (0.1, 0.5, 0.4), "shape": (0.1, 0.5, 0.4), "texture": (0, 1), "spatial": (0, 1), "numeracy": (0.3, 0.7),
    "complex": (0, 0.5, 0.35, 0.15),
}  # fmt: skip
"""Shares of the scenes of each category that have 1, 2, ... kinds of object."""
COUNTED = {1: ((2,), (3,), (4,)), 2: ((2, 1), (3, 1), (2, 2))}
"""Counts of the kinds in ``numeracy``, equally often."""
ONE_TEXTURE = ("colour", "shape")
"""Categories whose objects share one texture."""
REPEATED_COLOURS = ("shape",)
"""Categories whose objects may have one colour; elsewhere each kind has its own."""

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
"""Colour-shape pairs that no training scene of the prior has: every colour once, every shape at least once."""

GAP = 3  # the least distance between the boxes of two objects, in pixels
MARGIN = 12  # pixels by which the distance along a relation's axis exceeds the other: no relation is ambiguous


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
"""Colour, shape and texture. Objects of one kind share all three."""


@dataclass(frozen=True)
class Scene:
    """Objects at their places. In relational scenes the relation of the first two is unambiguous."""

    category: str
    objects: tuple[SceneObject, ...]

    @property
    def unseen(self) -> bool:
        """Whether any object has a colour-shape pair that is held out of the prior's training scenes."""
        return any((thing.colour, thing.shape) in HELD_OUT for thing in self.objects)

    @property
    def split(self) -> str:
        """``train``, ``val`` or ``test``, by a hash of the bag of attributes.

        Scenes that differ only in binding, size or place have the same hash. So no caption, scene or counterpart of one split
        occurs in another, with any seeds.
        """
        return split_of(*zip(*self.kinds, strict=True), map(len, self.kinds.values()))

    @property
    def relation(self) -> str | None:
        """The relation of the first object to the second, in relational scenes."""
        return relation(self.objects[0], self.objects[1]) if self.category in RELATIONAL else None

    @property
    def kinds(self) -> dict[Kind, list[SceneObject]]:
        """The objects of each kind, in the order of the scene. All objects of a kind have one size."""
        kinds: dict[Kind, list[SceneObject]] = {}
        for thing in self.objects:
            kinds.setdefault((thing.colour, thing.shape, thing.texture), []).append(thing)
        return kinds

    @property
    def content(self) -> tuple[object, ...]:
        """The content of every full caption, without sizes: the number of each kind, and the relation with its two objects."""
        counts = sorted((kind, len(things)) for kind, things in self.kinds.items())
        sides = [(thing.colour, thing.shape) for thing in self.objects[:2]] if self.relation else []
        if self.relation in ("right", "below"):
            sides.reverse()
        axis = {"left": "row", "right": "row", "above": "column", "below": "column"}.get(self.relation or "")
        return (*counts, axis, *sides)


def split_of(*bag: Iterable[str | int]) -> str:
    """The split of scenes with these colours, shapes, textures and counts of their kinds, whose order does not matter."""
    ordered = [sorted(part) for part in bag]
    return ("test", "val", "train", "train", "train")[sha256(repr(ordered).encode()).digest()[0] % 5]


def relation(first: SceneObject, second: SceneObject, margin: int = MARGIN) -> str | None:
    """Return where ``first`` is relative to ``second``: left, right, above or below; None if that is ambiguous."""
    dx, dy = first.x - second.x, first.y - second.y
    if abs(abs(dx) - abs(dy)) < margin:
        return None
    if abs(dx) > abs(dy):
        return "left" if dx < 0 else "right"
    return "above" if dy < 0 else "below"


def draw_scene(category: str, seed: tuple[int, ...], accept: Callable[[Scene], bool] = lambda scene: True) -> Scene:
    """Draw a scene of a category, as a pure function of the seed.

    Args:
        category: The category.
        seed: The seed.
        accept: Draws are repeated until this is true of the scene, whose objects have no places yet.

    Raises:
        ValueError: The category does not exist, or ``accept`` refuses 10,000 scenes.
    """
    if category not in CATEGORIES:
        raise ValueError(f"There is no category {category!r} in the world. Its categories are {', '.join(CATEGORIES)}.")
    rng = np.random.Generator(np.random.PCG64(list(seed)))
    for _ in range(10_000):
        scene = Scene(category, _draw_objects(category, rng))
        if accept(scene):
            return place(scene, rng)
    raise ValueError(
        f"The world has too few different scenes of category {category!r} for this request. Ask for fewer pairs or prompts."
    )


def counterpart(scene: Scene) -> Scene | None:
    """Return the scene with one attribute, or the places, swapped between two objects; None if no swap changes the caption.

    The swap that is tried first is the category's own (colours in ``colour``, and so on). In ``numeracy`` whole groups of
    objects of one kind swap.
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
    # If two groups now share colour and shape, no caption distinguishes them.
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
    """Draw attributes without places. No two kinds share colour and shape, so that a caption can name each."""
    kinds = 1 + int(rng.choice(len(share := KINDS[category]), p=share))
    shapes = rng.permutation(len(SHAPES))[:kinds]
    repeated = category in REPEATED_COLOURS
    colours = rng.integers(len(COLOURS), size=kinds) if repeated else rng.permutation(len(COLOURS))[:kinds]
    if category in ONE_TEXTURE:
        textures: np.ndarray = np.repeat(rng.integers(len(TEXTURES)) * (rng.random() < 0.5), kinds)
    elif category == "texture":
        textures = rng.permutation(len(TEXTURES))[:kinds]
    else:
        textures = rng.integers(len(TEXTURES), size=kinds) * (rng.random(kinds) < 0.5)
    counts = draw_counts(category, kinds, rng)
    sizes = draw_sizes(counts, rng)
    return tuple(
        SceneObject(COLOURS[colours[k]], SHAPES[shapes[k]], TEXTURES[textures[k]], sizes[k])
        for k in range(kinds)
        for _ in range(counts[k])
    )


def draw_counts(category: str, kinds: int, rng: np.random.Generator) -> Sequence[int]:
    """The number of objects of each kind."""
    if category != "numeracy":
        return [1] * kinds
    return COUNTED[kinds][rng.integers(len(COUNTED[kinds]))]


def draw_sizes(counts: Sequence[int], rng: np.random.Generator) -> list[str]:
    """The size of each kind."""
    kinds = len(counts)
    large = rng.random(kinds) < 0.5
    if sum(counts) > 2:  # at most one is large: four would fill the image
        large &= (np.arange(kinds) == rng.integers(kinds)) & (np.array(counts) == 1)
    return [("small", "large")[int(one)] for one in large]


def place(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene with places for its objects."""
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
