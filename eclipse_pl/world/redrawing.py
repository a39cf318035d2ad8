"""Redrawing: the scenes that a caption describes, drawn as often as the world draws them together with this caption."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, combinations_with_replacement, permutations, product
from math import factorial, prod

import numpy as np

from eclipse_pl.world.captions import OPPOSITE, PLAIN_SAID, SIZE_SAID, Description, Phrase, parse
from eclipse_pl.world.scenes import (
    CATEGORIES,
    COLOURS,
    COUNTED,
    HELD_OUT,
    KINDS,
    ONE_TEXTURE,
    RELATIONAL,
    REPEATED_COLOURS,
    SHAPES,
    TEXTURES,
    Scene,
    SceneObject,
    draw_counts,
    draw_sizes,
    place,
    split_of,
)

TEXTURE_SHARES = {texture: 0.5 / len(TEXTURES) + 0.5 * (texture == "plain") for texture in TEXTURES}
"""How often an object has each texture, where textures are drawn for each alone."""
TRIES = 1_000_000
"""Proposals for a scene of a caption. Most captions need hundreds, the rarest that was seen 40,000."""
AT_ONCE = 64


@dataclass(frozen=True)
class Hypothesis:
    """How a caption may have come about, without what it leaves out. ``slots`` has the kind that each phrase names."""

    category: str
    unseen: bool
    kinds: int
    slots: tuple[int, ...]
    says_plain: bool
    weight: float
    """Its probability, before what a proposal is refused for."""


class Redrawing:
    """Samples ``p(scene | caption)`` of a split, without approximation.

    The caption's grammar is a probability of captions for each scene (`captions.describe`, with the wording at random), and
    the world draws scenes. Bayes' rule of both is sampled by rejection: what the caption names is set, all else is drawn as
    the world draws it, and a scene is kept as often as it leads to this caption. The split is part of the distribution: a
    scene of another split is never drawn. No prior can know to which split a scene belongs, so it is a bound that a prior
    reaches only nearly. That scenes of one split differ from each other is left out.

    Args:
        split: ``train``, ``val`` or ``test``: all categories equally often, and in the last two half unseen compositions.
        detail: That of the captions.
        colours: Colours of the world.
    """

    def __init__(self, split: str, detail: float = 1.0, colours: Collection[str] = COLOURS) -> None:
        self.split, self.detail, self.colours = split, detail, frozenset(colours)

    def scenes(self, caption: str, count: int, seed: tuple[int, ...]) -> list[Scene]:
        """Return independent scenes that have this caption, as a pure function of the arguments.

        Raises:
            ValueError: The text is no caption of this detail, or the split has no scene for it.
        """
        described = parse(caption, vague=True)
        hypotheses = list(self._hypotheses(described))
        weights = np.array([one.weight for one in hypotheses])
        found: list[Scene] = []
        rng = np.random.Generator(np.random.PCG64(list(seed)))
        left = TRIES if hypotheses else 0
        while left > 0 and len(found) < count:
            for at in rng.choice(len(hypotheses), size=AT_ONCE, p=weights / weights.sum()):
                scene = self._propose(hypotheses[at], described, rng)
                if scene is not None:
                    found.append(scene)
                    left = TRIES
            left -= AT_ONCE
        if len(found) >= count:
            return found[:count]
        raise ValueError(
            f"No scene of the {self.split} split has the caption {caption!r} at detail {self.detail}. Redraw for captions of "
            "this world."
        )

    def _hypotheses(self, described: Description) -> Iterator[Hypothesis]:
        for category, says_size, says_plain in product(CATEGORIES, (False, True), (False, True)):
            wording = prod(
                share if said else 1 - share for share, said in ((SIZE_SAID[category], says_size), (PLAIN_SAID, says_plain))
            )
            named = wording * prod(self._naming(phrase, says_size, says_plain) for phrase in described.phrases)
            named *= chance_of_attributes(category, described.phrases)
            for kinds, share in enumerate(KINDS[category], 1):
                if not named * share:
                    continue
                for slots in permutations(range(kinds), len(described.phrases)):
                    if not any(
                        all(counts[k] == phrase.count for k, phrase in zip(slots, described.phrases, strict=True))
                        for counts in counts_of(category, kinds)
                    ):
                        continue
                    order = self._order(category, kinds, slots, described.relation is not None)
                    for unseen, split_share in shares_of_split(category, self.split, self.colours).items():
                        if order and split_share:
                            weight = named * share * order / split_share
                            yield Hypothesis(category, unseen, kinds, slots, says_plain, weight)

    def _naming(self, phrase: Phrase, says_size: bool, says_plain: bool) -> float:
        """Chance that a kind's facts are said as here, but for an unsaid texture, which may be plain."""
        kept, left_out = self.detail, 1 - self.detail
        chance = kept if phrase.colour else left_out
        if phrase.size:
            chance *= kept * says_size
        elif says_size:
            chance *= left_out
        if phrase.texture:
            chance *= kept * (says_plain or phrase.texture != "plain")
        return chance

    def _order(self, category: str, kinds: int, slots: Sequence[int], related: bool) -> float:
        """Chance that these kinds are named in this order, with or without a relation, and that the others are left out."""
        kept, left_out, named = self.detail, 1 - self.detail, len(slots)
        if category not in RELATIONAL:
            others = kept ** (named - 1) * left_out ** (kinds - named)
            return 0.0 if related else others / kinds / factorial(named - 1)
        first, *rest = slots
        if first > 1:
            return 0.0
        if 1 - first not in rest:
            free, chance = named - 1, 0.0 if related else left_out
        else:
            free, chance = named - 2, kept * (kept if related else left_out) * (rest[0] == 1 - first)
        return 0.5 * chance * kept**free * left_out ** (kinds - 2 - free) / factorial(free)

    def _propose(self, one: Hypothesis, described: Description, rng: np.random.Generator) -> Scene | None:
        """A scene, or None as often as the hypothesis weighs too much."""
        named = dict(zip(one.slots, described.phrases, strict=True))
        counts = draw_counts(one.category, one.kinds, rng)
        sizes = draw_sizes(counts, rng)
        if any(phrase.count != counts[k] or phrase.size not in (None, sizes[k]) for k, phrase in named.items()):
            return None
        shapes = completed({k: phrase.shape for k, phrase in named.items()}, one.kinds, SHAPES, rng)
        colour = {k: phrase.colour for k, phrase in named.items() if phrase.colour}
        colours = completed(colour, one.kinds, COLOURS, rng, repeated=one.category in REPEATED_COLOURS)
        textures = draw_textures(
            one.category, {k: phrase.texture for k, phrase in named.items() if phrase.texture}, one.kinds, rng
        )
        for k, phrase in named.items():
            plain_unsaid = self.detail * (textures[k] == "plain" and not one.says_plain)
            if phrase.texture is None and rng.random() >= 1 - self.detail + plain_unsaid:
                return None
        unseen = any(pair in HELD_OUT for pair in zip(colours, shapes, strict=True))
        if unseen != one.unseen or not self.colours.issuperset(colours):
            return None
        if split_of(colours, shapes, textures, counts) != self.split:
            return None
        things = [SceneObject(*facts) for facts in zip(colours, shapes, textures, sizes, strict=True)]
        scene = Scene(one.category, tuple(thing for thing, many in zip(things, counts, strict=True) for _ in range(many)))
        scene = place(scene, rng)
        if described.relation is None:
            return scene
        assert scene.relation is not None
        said = scene.relation if one.slots[0] == 0 else OPPOSITE[scene.relation]
        return scene if said == described.relation else None


def completed(
    known: dict[int, str], kinds: int, choices: Sequence[str], rng: np.random.Generator, repeated: bool = False
) -> list[str]:
    """A value for each kind, the known ones as they are. Values differ unless they may be ``repeated``."""
    if repeated:
        return [known.get(k) or choices[int(rng.integers(len(choices)))] for k in range(kinds)]
    free = iter(rng.permutation([choice for choice in choices if choice not in known.values()]).tolist())
    return [known.get(k) or next(free) for k in range(kinds)]


def draw_textures(category: str, known: dict[int, str], kinds: int, rng: np.random.Generator) -> list[str]:
    """The texture of each kind, given those that a caption names."""
    if category == "texture":
        return completed(known, kinds, TEXTURES, rng)
    drawn = [TEXTURES[at] for at in (rng.integers(len(TEXTURES), size=kinds) * (rng.random(kinds) < 0.5)).tolist()]
    if category in ONE_TEXTURE:
        return [next(iter(known.values()), drawn[0])] * kinds
    return [known.get(k, drawn[k]) for k in range(kinds)]


def chance_of_attributes(category: str, phrases: Sequence[Phrase]) -> float:
    """Chance that the kinds have the shapes, colours and textures that are named."""
    shapes = [phrase.shape for phrase in phrases]
    colours = [phrase.colour for phrase in phrases if phrase.colour]
    textures = [phrase.texture for phrase in phrases if phrase.texture]
    chance = different(shapes, SHAPES)
    chance *= len(COLOURS) ** -len(colours) if category in REPEATED_COLOURS else different(colours, COLOURS)
    if category == "texture":
        return chance * different(textures, TEXTURES)
    if category in ONE_TEXTURE:
        return chance * (TEXTURE_SHARES[textures[0]] if textures else 1) * (len(set(textures)) <= 1)
    return chance * prod(TEXTURE_SHARES[texture] for texture in textures)


def different(values: Sequence[str], choices: Sequence[str]) -> float:
    """Chance of these values as the first of a random order of the choices."""
    if len(set(values)) < len(values):
        return 0.0
    return 1 / prod(range(len(choices) - len(values) + 1, len(choices) + 1))


@cache
def shares_of_split(category: str, split: str, colours: frozenset[str]) -> dict[bool, float]:
    """{unseen: share of a category's draws that a split accepts}, by enumeration. Training scenes are none of the unseen."""
    shares = {False: 0.0, True: 0.0}
    for kinds, share in enumerate(KINDS[category], 1):
        shape_sets = list(combinations(SHAPES, kinds)) if share else []
        texture_bags = bags_of_textures(category, kinds)
        count_bags = counts_of(category, kinds)
        for drawn, colour_share in bags_of_colours(category, kinds).items():
            if not colours.issuperset(drawn):
                continue
            for shapes in shape_sets:
                orders = list(permutations(drawn))
                unseen = sum(any(pair in HELD_OUT for pair in zip(order, shapes, strict=True)) for order in orders)
                held = sum(
                    chance / len(count_bags)
                    for (textures, chance), counts in product(texture_bags.items(), count_bags)
                    if split_of(drawn, shapes, textures, counts) == split
                )
                part = share * colour_share * held / len(shape_sets) / len(orders)
                shares[True] += part * unseen
                shares[False] += part * (len(orders) - unseen)
    return {False: shares[False]} if split == "train" else shares


def counts_of(category: str, kinds: int) -> Sequence[Sequence[int]]:
    """The counts of the kinds that `draw_counts` draws, all equally often."""
    return COUNTED[kinds] if category == "numeracy" else ((1,) * kinds,)


def bags_of_colours(category: str, kinds: int) -> dict[tuple[str, ...], float]:
    if category not in REPEATED_COLOURS:
        bags = list(combinations(COLOURS, kinds))
        return dict.fromkeys(bags, 1 / len(bags))
    return bags_of(COLOURS, dict.fromkeys(COLOURS, 1 / len(COLOURS)), kinds)


def bags_of_textures(category: str, kinds: int) -> dict[tuple[str, ...], float]:
    if category == "texture":
        bags = list(combinations(TEXTURES, kinds))
        return dict.fromkeys(bags, 1 / len(bags))
    if category in ONE_TEXTURE:
        return {(texture,) * kinds: share for texture, share in TEXTURE_SHARES.items()}
    return bags_of(TEXTURES, TEXTURE_SHARES, kinds)


def bags_of(choices: Sequence[str], shares: dict[str, float], kinds: int) -> dict[tuple[str, ...], float]:
    """Independent draws without their order, and how often they occur."""
    return {
        bag: factorial(kinds) / prod(factorial(bag.count(one)) for one in set(bag)) * prod(shares[one] for one in bag)
        for bag in combinations_with_replacement(choices, kinds)
    }
