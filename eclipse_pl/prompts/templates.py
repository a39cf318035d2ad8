"""Relations, numbers and adjectives in the sentences of T2I-CompBench."""

from __future__ import annotations

import re

from eclipse_pl.prompts.parser import Parse, Word
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
"""In the order in which T2I-CompBench's spatial score looks for them. The first of the list that the text has counts."""
RELATIONS_3D = ("in front of", "behind", "hidden by")
NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}


def relation(parse: Parse, names: tuple[str, ...], nearest: bool = False) -> Relation | None:
    """Return the relation that a text names; None if it names none of ``names``.

    A compound is one noun ("coat rack"), as an open-vocabulary detector is asked for it as a whole.

    Args:
        parse: The parse of the text.
        names: The relations to look for. The first of the list that the text has counts, wherever it stands in the text.
        nearest: Whether the relation is between the two nouns nearest to it, as in T2I-CompBench's complex category, or
            between the first noun and the last, as in its spatial categories.

    Raises:
        ValueError: There is no noun before or after the relation.
    """
    words = [word.text.lower() for word in parse.words]
    for name in names:
        start = _place(words, name.split())
        if start is None:
            continue
        before = [noun for place, noun in _nouns(parse) if place < start]
        after = [noun for place, noun in _nouns(parse) if place >= start + len(name.split())]
        if not before or not after:
            raise ValueError(f"there is no noun {'before' if not before else 'after'} its relation {name!r}")
        return Relation(before[-1 if nearest else 0], name, after[0 if nearest else -1])
    return None


def adjectives(parse: Parse) -> tuple[str, ...]:
    """Return the adjectives, each once. T2I-CompBench's complex category leaves them out of the text for its CLIP score."""
    return tuple(dict.fromkeys(word.text for word in parse.words if word.tag == "ADJ"))


def counts(text: str, singular: dict[str, str]) -> tuple[Required, ...]:
    """Return the objects that a text counts, by number words from one (a, an) to eight before a noun of one or two words.

    "a" before a word that is not in the table ("a picnic") counts nothing, as in T2I-CompBench.

    Args:
        text: The text.
        singular: The table of nouns, {singular or plural: singular}.

    Raises:
        ValueError: A number has no noun of the table after it, or there is no number.
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
        raise ValueError(f"it counts nothing: no {', '.join(NUMBERS)} with a noun of the table after it")
    return tuple(found)


def _place(words: list[str], name: list[str]) -> int | None:
    """Return the index in ``words`` at which the words of ``name`` first occur; None if they do not."""
    return next((i for i in range(len(words)) if words[i : i + len(name)] == name), None)


def _nouns(parse: Parse) -> list[tuple[int, str]]:
    """Return (index, noun) of every noun. Adjacent nouns are one."""
    found: list[tuple[int, str]] = []
    for i, word in enumerate(parse.words):
        if not _is_noun(word, parse):
            continue
        if i and _is_noun(parse.words[i - 1], parse):
            place, noun = found.pop()
            found.append((place, f"{noun} {word.text}"))
        else:
            found.append((i, word.text))
    return found


def _is_noun(word: Word, parse: Parse) -> bool:
    """Whether a word is a noun. The last of several words of a phrase is one, even if spaCy tags it as a pronoun."""
    ends_a_phrase = any(phrase.endswith(f" {word.text}") for phrase in parse.phrases)
    tagged = word.tag in ("NOUN", "PROPN") or (word.tag == "PRON" and ends_a_phrase)
    return tagged and word.text[0].isalnum()  # spaCy may tag the hyphen of "mid-air" as a noun
