"""Which scenes are for training, validation and test: disjoint in scenes and captions by construction, whatever the seeds."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count

from eclipse_pl.world.captions import describe
from eclipse_pl.world.scenes import CATEGORIES, COLOURS, Kind, Scene, counterpart, draw_scene

SPLITS = ("train", "val", "test")
ENCODER, PROMPTS = len(SPLITS), len(SPLITS) + 1  # streams of scenes beside the splits, each with a number of its own


@dataclass(frozen=True)
class ScenePair:
    """A scene with its caption; validation and test pairs also have the counterpart, where one exists."""

    scene: Scene
    caption: str
    negative: Scene | None = None
    negative_caption: str | None = None

    @property
    def subset(self) -> str:
        return "unseen" if self.scene.unseen else "seen"


def training_scenes(n: int, seed: int = 0, colours: Collection[str] = COLOURS) -> Iterator[ScenePair]:
    """All categories in turn, no held-out colour-shape pair. A longer run with the same seed begins like a shorter one.

    ``colours``: only scenes of these; a world of part of the colours is another domain in the same space.
    """
    require_colours(colours)
    for i in range(n):
        scene = draw_scene(
            CATEGORIES[i % len(CATEGORIES)],
            (seed, 0, i),
            lambda s: s.split == "train" and not s.unseen and has_colours(s, colours),
        )
        yield ScenePair(scene, describe(scene, i))


def held_out_scenes(split: str, n: int, seed: int = 0, colours: Collection[str] = COLOURS) -> Iterator[ScenePair]:
    """``val`` or ``test``: all categories, seen and unseen compositions half and half, no two with the same objects.

    Distinct objects keep every caption specific: none of the others is described by it.
    """
    if split not in SPLITS[1:]:
        raise ValueError(f"{split!r} is not one of the held-out splits, {' and '.join(SPLITS[1:])}.")
    require_colours(colours)
    taken: set[frozenset[Kind]] = set()

    def wanted(scene: Scene, unseen: bool) -> bool:
        fits = scene.split == split and scene.unseen == unseen and has_colours(scene, colours)
        return fits and frozenset(scene.kinds) not in taken

    for i in range(n):
        unseen = bool(i // len(CATEGORIES) % 2)
        category = CATEGORIES[i % len(CATEGORIES)]
        scene = draw_scene(category, (seed, SPLITS.index(split), i), partial(wanted, unseen=unseen))
        taken.add(frozenset(scene.kinds))
        other = counterpart(scene)
        yield ScenePair(scene, describe(scene, i), other, describe(other, i) if other else None)


def encoder_scene(i: int, seed: int = 0) -> Scene:
    """Scene number ``i`` for the world's own models: all compositions, everything but the test split."""
    return draw_scene(CATEGORIES[i % len(CATEGORIES)], (seed, ENCODER, i), lambda s: s.split != "test")


def encoder_scenes(seed: int = 0) -> Iterator[ScenePair]:
    """Endless scenes for the world's own CLIP.

    A scene is followed by its counterpart, where it has one, in the same words. In one batch the two are each other's hard
    negatives; without them a CLIP of this size learns which attributes an image has, but not which belong together.
    """
    for i in count():
        scene = encoder_scene(i, seed)
        yield ScenePair(scene, describe(scene, i))
        if other := counterpart(scene):
            yield ScenePair(other, describe(other, i))


def has_colours(scene: Scene, colours: Collection[str]) -> bool:
    """True if all objects are of these colours."""
    return all(thing.colour in colours for thing in scene.objects)


def require_colours(colours: Collection[str]) -> None:
    """Raise ValueError unless they are colours of the world, and enough for its scenes of four kinds of object."""
    if unknown := sorted(set(colours) - set(COLOURS)):
        raise ValueError(f"The world has no colour {unknown[0]!r}; it has {', '.join(COLOURS)}.")
    if len(set(colours)) < 4:
        raise ValueError(f"{len(set(colours))} colours are too few: scenes of four objects need four ({', '.join(COLOURS)}).")
