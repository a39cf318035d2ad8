"""The grammar of captions: ``describe`` turns a scene into a caption, ``parse`` turns a caption into its description.

A caption is an optional opening, then one phrase per kind of object: count, size, texture, colour, shape, in this order. A
phrase always names colour and shape, and a texture other than plain. It may leave out "plain" and the size. In relational
scenes a relation joins the first two phrases, in either direction ("left of" or "right of").
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from eclipse_pl.world.scenes import COLOURS, DIAMETER, RELATIONAL, SHAPES, TEXTURES, Scene

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
    rf"({'|'.join(COLOURS)}) ({'|'.join(PLURAL.values())}|{'|'.join(SHAPES)})\b"
)
_OPENING = re.compile("|".join(["a picture of ", "there is ", "there are ", "one can see ", ""]))


@dataclass(frozen=True)
class Phrase:
    """``count`` objects of one kind. ``size`` is None if the caption leaves it out."""

    count: int
    size: str | None
    texture: str
    colour: str
    shape: str

    def words(self, say_plain: bool) -> str:
        texture = self.texture if self.texture != "plain" or say_plain else None
        shape = self.shape if self.count == 1 else PLURAL[self.shape]
        kind = " ".join(word for word in (self.size, texture, self.colour, shape) if word)
        count = COUNTS[self.count - 1]
        return f"{'an' if count == 'a' and kind[0] in 'aeiou' else count} {kind}"


@dataclass(frozen=True)
class Description:
    """The content of a caption. ``relation`` is the relation of the first phrase's object to the second's."""

    phrases: tuple[Phrase, ...]
    relation: str | None = None


def describe(scene: Scene, seed: int) -> str:
    """Return the caption of a scene. The seed chooses the wording: similar scenes with one seed have similar captions."""
    rng = np.random.Generator(np.random.PCG64([seed, 0xCA]))
    opening, join, synonym = OPENINGS[rng.integers(len(OPENINGS))], JOINS[rng.integers(len(JOINS))], int(rng.integers(2))
    say_size, say_plain, flip = rng.random(3) < (SIZE_SAID[scene.category], PLAIN_SAID, 0.5)
    things = list(scene.kinds.values())
    fixed = 2 if scene.category in RELATIONAL else 0
    order = [*range(fixed), *(fixed + rng.permutation(len(things) - fixed))]
    if fixed and flip:
        order[:2] = order[1::-1]
    phrases = [
        Phrase(len(group), group[0].size if say_size else None, group[0].texture, group[0].colour, group[0].shape)
        for group in (things[k] for k in order)
    ]
    words = [phrase.words(bool(say_plain)) for phrase in phrases]
    if relation := scene.relation:
        relation = OPPOSITE[relation] if flip else relation
        words[:2] = [f"{words[0]} {RELATIONS[relation][synonym]} {words[1]}"]
        join = "and"
    start = opening.format("is" if phrases[0].count == 1 else "are")
    *before, last = words
    return start + (f"{', '.join(before)} {join if len(before) == 1 else 'and'} {last}" if before else last)


def parse(caption: str) -> Description:
    """Return the content of a caption.

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
    phrases = [
        Phrase(
            1 if m[1] in ("a", "an") else COUNTS.index(m[1]) + 1,
            m[2],
            m[3] or "plain",
            m[4],
            _SINGULAR[m[5]],
        )
        for m in found
    ]
    return Description(tuple(phrases), related)
