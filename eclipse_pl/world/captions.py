"""The grammar of captions: ``describe`` turns a scene into a caption, ``parse`` turns a caption into its description.

A caption is an optional opening, then one phrase per kind of object: count, size, texture, colour, shape, in this order. A
phrase of a full caption always names colour and shape, and a texture other than plain. It may leave out "plain" and the
size. In relational scenes a relation joins the first two phrases, in either direction ("left of" or "right of").

A vague caption (detail below 1) leaves out objects, sizes, textures, colours and the relation. It always names the shape of
at least one kind of object, and how many there are. What it does not name may be anything.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, permutations

import numpy as np

from eclipse_pl.world.scenes import COLOURS, DIAMETER, RELATIONAL, SHAPES, TEXTURES, Scene, SceneObject, relation

COUNTS = ("a", "two", "three", "four")
OPENINGS = ("", "", "a picture of ", "there {} ", "one can see ")
RELATIONS = {
    "left": ("to the left of", "left of"),
    "right": ("to the right of", "right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
JOINS = ("and", "and", "with", "beside")
SIZE_SAID = {"colour": 0.5, "shape": 0.5, "texture": 0.3, "spatial": 0.3, "numeracy": 0.5, "complex": 0.7}
PLAIN_SAID = 0.3
PLURAL = {shape: shape + ("es" if shape.endswith("s") else "s") for shape in SHAPES}
_SINGULAR = {word: shape for shape, plural in PLURAL.items() for word in (shape, plural)}
_PHRASE = re.compile(
    rf"\b(an?|{'|'.join(COUNTS[1:])}) (?:({'|'.join(DIAMETER)}) )?(?:({'|'.join(TEXTURES)}) )?"
    rf"(?:({'|'.join(COLOURS)}) )?({'|'.join(PLURAL.values())}|{'|'.join(SHAPES)})\b"
)
_OPENING = re.compile("|".join(["a picture of ", "there is ", "there are ", "one can see ", ""]))


@dataclass(frozen=True)
class Phrase:
    """``count`` objects of one kind. Size, texture and colour are None if the caption leaves them out."""

    count: int
    size: str | None
    texture: str | None
    colour: str | None
    shape: str

    def words(self, say_plain: bool) -> str:
        texture = self.texture if self.texture != "plain" or say_plain else None
        shape = self.shape if self.count == 1 else PLURAL[self.shape]
        kind = " ".join(word for word in (self.size, texture, self.colour, shape) if word)
        count = COUNTS[self.count - 1]
        return f"{'an' if count == 'a' and kind[0] in 'aeiou' else count} {kind}"

    def is_true_of(self, thing: SceneObject) -> bool:
        """Whether the object has everything that the phrase names."""
        named = ((part, getattr(self, part)) for part in ("size", "texture", "colour", "shape"))
        return all(value in (None, getattr(thing, part)) for part, value in named)


@dataclass(frozen=True)
class Description:
    """The content of a caption. ``relation`` is the relation of the first phrase's object to the second's."""

    phrases: tuple[Phrase, ...]
    relation: str | None = None
    vague: bool = False
    """Whether what the caption does not name may be anything. A full caption names all objects, and all but their sizes."""


def require_detail(name: str, detail: float) -> None:
    """Raise ValueError if ``detail`` is no probability. ``name`` is what the user calls it."""
    if not 0 <= detail <= 1:
        raise ValueError(
            f"{name} is {detail}; it must be between 0 (captions name one shape) and 1 (captions name every object and fact)."
        )


def describe(scene: Scene, seed: int, detail: float = 1.0, number: int = 0) -> str:
    """Return a caption of a scene, as a pure function of the arguments.

    Args:
        scene: The scene.
        seed: It chooses the wording: similar scenes with one seed have similar captions.
        detail: The probability with which the caption keeps each object after the first, each size, texture and colour, and
            the relation. What it says at a lower detail is a part of what it says at a higher one.
        number: The number of the caption, for several captions of one scene.
    """
    # numpy fills a seed up with zeros: caption 0 has the wording that a scene's only caption has
    rng = np.random.Generator(np.random.PCG64([seed, 0xCA, number]))
    opening, join, synonym = OPENINGS[rng.integers(len(OPENINGS))], JOINS[rng.integers(len(JOINS))], int(rng.integers(2))
    say_size, say_plain, flip = rng.random(3) < (SIZE_SAID[scene.category], PLAIN_SAID, 0.5)
    things = list(scene.kinds.values())
    fixed = 2 if scene.category in RELATIONAL else 0
    order = [*range(fixed), *(fixed + rng.permutation(len(things) - fixed))]
    if fixed and flip:
        order[:2] = order[1::-1]
    # one row for each kind of object, and one for the relation
    keeps = np.random.Generator(np.random.PCG64([seed, 0xDE, number])).random((len(things) + 1, 4)) < detail
    named = [k for k in order if k == order[0] or keeps[k, 0]]
    phrases = [_phrase(things[k], bool(say_size), keeps[k, 1:].tolist()) for k in named]
    words = [phrase.words(bool(say_plain)) for phrase in phrases]
    if scene.relation and named[:2] == order[:2] and keeps[-1, 0]:
        said = OPPOSITE[scene.relation] if flip else scene.relation
        words[:2] = [f"{words[0]} {RELATIONS[said][synonym]} {words[1]}"]
        join = "and"
    start = opening.format("is" if phrases[0].count == 1 else "are")
    *before, last = words
    return start + (f"{', '.join(before)} {join if len(before) == 1 else 'and'} {last}" if before else last)


def _phrase(group: Sequence[SceneObject], say_size: bool, keeps: Sequence[bool]) -> Phrase:
    size, texture, colour = keeps
    thing = group[0]
    return Phrase(
        len(group),
        thing.size if say_size and size else None,
        thing.texture if texture else None,
        thing.colour if colour else None,
        thing.shape,
    )


def parse(caption: str, vague: bool = False) -> Description:
    """Return the content of a caption.

    Args:
        caption: The caption.
        vague: Whether the caption may leave things out. A phrase without a texture is then not plain, but of any texture. A
            caption in which a colour is missing is vague in any case.

    Raises:
        ValueError: The text is not a caption of this grammar.
    """
    text = " ".join(caption.lower().split()).rstrip(".")
    body = text[_OPENING.match(text).end() :]  # type: ignore[union-attr]  # the last opening is empty: always a match
    found = list(_PHRASE.finditer(body))
    between = [body[a.end() : b.start()].strip() for a, b in pairwise(found)]
    relations = {words: name for name, synonyms in RELATIONS.items() for words in synonyms}
    related = relations.get(between[0]) if between else None
    joins = between[1:] if related else between
    whole = found and found[0].start() == 0 and found[-1].end() == len(body)
    if not whole or any(join not in (*JOINS, ",") for join in joins):
        raise ValueError(
            f"{caption!r} is not a caption of the world, such as 'a large dotted green square above an orange heart' "
            "or 'three red stars and a blue circle'."
        )
    vague = vague or any(m[4] is None for m in found)
    phrases = [
        Phrase(
            1 if m[1] in ("a", "an") else COUNTS.index(m[1]) + 1,
            m[2],
            m[3] or (None if vague else "plain"),
            m[4],
            _SINGULAR[m[5]],
        )
        for m in found
    ]
    return Description(tuple(phrases), related, vague)


def fits(described: Description, things: Sequence[SceneObject]) -> bool:
    """Whether a vague caption is true of these objects. Shapes that it does not name are free; of the others it says all."""
    for shape in {phrase.shape for phrase in described.phrases}:
        wanted = [phrase for phrase in described.phrases if phrase.shape == shape for _ in range(phrase.count)]
        found = [thing for thing in things if thing.shape == shape]
        if len(wanted) != len(found) or not any(all(map(Phrase.is_true_of, wanted, order)) for order in permutations(found)):
            return False
    return described.relation is None or has_relation(described, things)


def has_relation(described: Description, things: Sequence[SceneObject]) -> bool:
    """Whether an object of the first shape has the relation to one of the second. Colour identifies equal shapes."""
    first, second = (replace(phrase, size=None, texture=None) for phrase in described.phrases[:2])
    if first.shape != second.shape:
        first, second = replace(first, colour=None), replace(second, colour=None)
    return any(
        relation(one, other, margin=0) == described.relation
        for one, other in permutations(things, 2)
        if first.is_true_of(one) and second.is_true_of(other)
    )
