"""The training, validation and test scenes. No scene and no full caption is in two splits, with any seeds."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

from eclipse_pl.world.captions import describe, fits, parse
from eclipse_pl.world.scenes import CATEGORIES, COLOURS, HELD_OUT, Kind, Scene, counterpart, draw_scene

SPLITS = ("train", "val", "test")
ENCODER, PROMPTS, GALLERY = range(
    len(SPLITS), len(SPLITS) + 3
)  # more streams of scenes; a stream's number is part of its seed


@dataclass(frozen=True)
class ScenePair:
    """A scene with its caption and its counterpart, if one exists. Training pairs have counterparts only if asked."""

    scene: Scene
    caption: str
    negative: Scene | None = None
    negative_caption: str | None = None
    wording: int = 0
    """The seed of the wording."""

    @property
    def subset(self) -> str:
        """``unseen``: the caption names a held-out colour-shape pair. ``unsaid``: the scene has one that it does not name."""
        if not self.scene.unseen:
            return "seen"
        return "unseen" if names_held_out_pair(self.caption) else "unsaid"

    def at_detail(self, detail: float, number: int = 0) -> ScenePair:
        """The same scene with its caption ``number`` at a detail (`captions.describe`).

        A counterpart that this caption describes too is no hard negative, and is left out. So is the counterpart's caption if
        it describes this scene too: "a red square" leaves out the texture of a dotted one.
        """
        if (detail, number) == (1, 0):
            return self
        caption, other = describe(self.scene, self.wording, detail, number), self.negative
        if other is None or fits(parse(caption, vague=detail < 1), other.objects):
            return replace(self, caption=caption, negative=None, negative_caption=None)
        swapped = describe(other, self.wording, detail, number)
        true = fits(parse(swapped, vague=detail < 1), self.scene.objects)
        return replace(self, caption=caption, negative_caption=None if true else swapped)


def names_held_out_pair(caption: str) -> bool:
    """Whether a caption names a colour-shape pair that no training scene has."""
    return any((phrase.colour, phrase.shape) in HELD_OUT for phrase in parse(caption).phrases)


def scenes_of(
    split: str, n: int, seed: int = 0, colours: Collection[str] = COLOURS, train_negatives: bool = False
) -> Iterator[ScenePair]:
    """Yield the scenes of a split: those of training, or of a held-out split."""
    if split == "train":
        return training_scenes(n, seed, colours, train_negatives)
    return held_out_scenes(split, n, seed, colours)


def training_scenes(n: int, seed: int = 0, colours: Collection[str] = COLOURS, negatives: bool = False) -> Iterator[ScenePair]:
    """Yield scenes of all categories in turn, without held-out colour-shape pairs.

    A longer sequence with the same seed begins with the shorter one.

    Args:
        n: The number of scenes.
        seed: The seed.
        colours: All objects have one of these. A world of some of the colours is another domain in the same space.
        negatives: Add the counterparts that a training scene may be: none has a held-out colour-shape pair.
    """
    require_colours(colours)
    for i in range(n):
        scene = draw_scene(
            CATEGORIES[i % len(CATEGORIES)],
            (seed, 0, i),
            lambda s: s.split == "train" and not s.unseen and has_colours(s, colours),
        )
        other = counterpart(scene) if negatives else None
        if other is None or other.unseen:
            yield ScenePair(scene, describe(scene, i), wording=i)
        else:
            yield ScenePair(scene, describe(scene, i), other, describe(other, i), i)


def held_out_scenes(split: str, n: int, seed: int = 0, colours: Collection[str] = COLOURS) -> Iterator[ScenePair]:
    """Yield scenes of ``val`` or ``test``: all categories, half seen and half unseen compositions.

    No two scenes have the same objects, so that a caption describes one scene only.

    Raises:
        ValueError: The split is neither ``val`` nor ``test``, or the colours are unknown or too few, for so many scenes too.
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
        try:
            scene = draw_scene(category, (seed, SPLITS.index(split), i), partial(wanted, unseen=unseen))
        except ValueError as error:
            raise ValueError(
                f"The world has too few different scenes for {n} pairs of {split}: it drew {i}, and found no other of "
                f"category {category} with the colours {', '.join(colours)}. Ask for at most {i} (`--{split}` of "
                f"`python -m data_prep world`, data.{split}_pairs), or for more colours."
            ) from error
        taken.add(frozenset(scene.kinds))
        other = counterpart(scene)
        yield ScenePair(scene, describe(scene, i), other, describe(other, i) if other else None, i)


def encoder_scene(i: int, seed: int = 0) -> Scene:
    """Return training scene ``i`` of the world's own models: all compositions, all splits except test."""
    return draw_scene(CATEGORIES[i % len(CATEGORIES)], (seed, ENCODER, i), lambda s: s.split != "test")


def encoder_scenes(seed: int = 0) -> Iterator[ScenePair]:
    """Yield scenes for the world's own CLIP, without end.

    A scene's counterpart follows it, if there is one, with the same wording. In one batch the two are each other's hard
    negatives. Without them a CLIP of this size learns which attributes an image has, but not which belong together.
    """
    for i in count():
        scene = encoder_scene(i, seed)
        yield ScenePair(scene, describe(scene, i))
        if other := counterpart(scene):
            yield ScenePair(other, describe(other, i))


def has_colours(scene: Scene, colours: Collection[str]) -> bool:
    """Whether all objects have one of these colours."""
    return all(thing.colour in colours for thing in scene.objects)


def require_colours(colours: Collection[str]) -> None:
    """Check the colours of a world.

    Raises:
        ValueError: The world has no such colour, or they are too few for scenes of four kinds of object.
    """
    if unknown := sorted(set(colours) - set(COLOURS)):
        raise ValueError(f"The world has no colour {unknown[0]!r}; it has {', '.join(COLOURS)}.")
    if len(set(colours)) < 4:
        raise ValueError(f"{len(set(colours))} colours are too few: scenes of four objects need four ({', '.join(COLOURS)}).")
