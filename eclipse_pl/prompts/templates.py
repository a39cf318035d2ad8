"""What the sentences of T2I-CompBench ask for beside their noun phrases: relations, numbers, adjectives ."""

from __future__ import annotations

import re

from eclipse_pl.prompts.parser import Reading
from eclipse_pl.prompts.prompt import Relation, Required

RELATIONS_2D = (
    "on side of",
    "next to",
    "near",
    "on the left of",
    "on the right of",
    "on the bottom of",
    "on the top of",
    "on top of",
)
"""In the order in which T2I-CompBench's spatial score looks for them; the first that is there counts."""
RELATIONS_3D = ("in front of", "behind", "hidden by")
NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}


def relation(reading: Reading, names: tuple[str, ...], nearest: bool = False) -> Relation | None:
    """The relation that a text names, between its first noun and its last, or between the two ``nearest`` to its words.

    T2I-CompBench takes first and last in its spatial categories, the nearest in its complex one. A compound is one noun
    ("coat rack"): an open-vocabulary detector is asked for it as a whole. None where none of ``names`` is in the text,
    ValueError where a noun is missing.
    """
    words = [word.text.lower() for word in reading.words]
    for name in names:
        start = _place(words, name.split())
        if start is None:
            continue
        before = [noun for place, noun in _nouns(reading) if place < start]
        after = [noun for place, noun in _nouns(reading) if place >= start + len(name.split())]
        if not before or not after:
            raise ValueError(f"there is no noun {'before' if not before else 'behind'} its relation {name!r}")
        return Relation(before[-1 if nearest else 0], name, after[0 if nearest else -1])
    return None


def adjectives(reading: Reading) -> tuple[str, ...]:
    """Words that T2I-CompBench's complex category leaves out of a text for its CLIP score, each once."""
    return tuple(dict.fromkeys(word.text for word in reading.words if word.tag == "ADJ"))


def counts(text: str, singular: dict[str, str]) -> tuple[Required, ...]:
    """Number words from one (a, an) to eight, each with the noun of one or two words behind it.

    ``singular`` is the table of nouns, {singular or plural: singular}. "a" before a word that is not in it ("a picnic")
    counts nothing, as in T2I-CompBench. ValueError where a number has no noun of the table, or where there is no number.
    """
    words = re.findall(r"[^\W\d_]+(?:-[^\W_]+)*", text.lower())
    found: list[Required] = []
    for i, word in enumerate(words):
        if word not in NUMBERS:
            continue
        named = [" ".join(words[i + 1 : i + 1 + length]) for length in (2, 1)]
        noun = next((singular[name] for name in named if name in singular), None)
        if noun is not None:
            found.append(Required(noun, NUMBERS[word]))
        elif word not in ("a", "an"):
            raise ValueError(f"{word!r} counts {named[1]!r}, which is not in the table of nouns")
    if not found:
        raise ValueError(f"it counts nothing: no {', '.join(NUMBERS)} with a noun of the table behind it")
    return tuple(found)


def _place(words: list[str], name: list[str]) -> int | None:
    """First place of the words of ``name`` in ``words``."""
    return next((i for i in range(len(words)) if words[i : i + len(name)] == name), None)


def _nouns(reading: Reading) -> list[tuple[int, str]]:
    """(place, noun) of every noun, words that stand together as one."""
    found: list[tuple[int, str]] = []
    for i, word in enumerate(reading.words):
        if word.tag not in ("NOUN", "PROPN"):
            continue
        if i and reading.words[i - 1].tag in ("NOUN", "PROPN"):
            place, noun = found.pop()
            found.append((place, f"{noun} {word.text}"))
        else:
            found.append((i, word.text))
    return found
