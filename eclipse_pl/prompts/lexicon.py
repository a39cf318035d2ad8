"""What a word may be before its neighbours are looked at: the classes of ``words.txt``, and what its ending says."""

from __future__ import annotations

import re
from collections import defaultdict
from functools import cache
from pathlib import Path

VOWELS = "aeiouy"
CLOSED = frozenset(
    {"determiner", "preposition", "conjunction", "subordinator", "auxiliary", "pronoun", "adverb", "punctuation"}
)
"""Classes that no noun, verb or adjective belongs to."""
VERBAL = frozenset({"base", "third", "past", "past_noun_too", "gerundive", "participle"})
"""Forms of verbs: sit, sits, sat, rose (also a flower), sitting, seated."""
OF_SEVERAL_WORDS = ("compound", "adverbial", "relation")


@cache
def lexicon() -> dict[str, frozenset[str]]:
    """{word, or several words with spaces between them: its classes in ``words.txt``}."""
    classes: dict[str, set[str]] = defaultdict(set)
    for line in Path(__file__).with_name("words.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, words = line.split(": ")
            for word in words.split(", ") if name in OF_SEVERAL_WORDS else words.split():
                classes[word].add(name)
    return {word: frozenset(names) for word, names in classes.items()}


@cache
def word_classes(word: str) -> frozenset[str]:
    """Classes that a word in lower case may belong to; none where it is a noun for all that is known.

    ``words.txt`` explains its own. From the ending come ``third`` (sits), ``past`` (floated), ``gerundive`` (floating),
    ``participle`` (striped), ``plural``, and adverbs in -ly; ``number`` and ``punctuation`` are what they are.
    """
    known = lexicon().get(word, frozenset())
    if not word[0].isalnum() and "'" not in word:
        return frozenset({"punctuation"})
    if word[0].isdigit():
        return frozenset({"determiner", "number"})
    plural = {"plural"} if _is_plural(word) else set()
    if known & CLOSED:
        return known
    if "noun" in known:
        return known | plural
    if word.endswith("ly") and len(word) > 3 and "adjective" not in known:
        return frozenset({"adverb"})
    found = {*known, *plural, *(["base"] if "verb" in known else [])}
    stems = [lexicon().get(stem, frozenset()) for stem in _stems(word, "s")]
    if any("verb" in stem for stem in stems):
        found |= {"third", *(["noun_too"] if any("noun_too" in stem for stem in stems) else [])}
    if "adjective" not in known and re.search(rf"[{VOWELS}].*[^e]ed$", word):
        found |= {"past", "participle"}
    if not known & {"adjective", "verb"} and re.search(rf"[{VOWELS}].*ing$", word):
        found |= {"gerundive"}
    if re.search(r"[a-z]{3}(less|ous|ful|esque)$", word):
        found |= {"adjective"}
    return frozenset(found)


def is_causative(verb: str) -> bool:
    """Whether the verb, in whatever form, may take a noun and a base form: "watching her child play"."""
    forms = [verb, *_stems(verb, "s"), *_stems(verb, "ing"), *_stems(verb, "ed")]
    return any("causative" in lexicon().get(form, ()) for form in forms)


def _stems(word: str, ending: str) -> list[str]:
    if not word.endswith(ending):
        return []
    stem = word[: -len(ending)]
    if ending == "s":
        return [stem, *([stem[:-1]] if stem.endswith("e") else []), *([stem[:-2] + "y"] if stem.endswith("ie") else [])]
    doubled = [stem[:-1]] if len(stem) > 2 and stem[-1] == stem[-2] else []
    return [stem, stem + "e", *doubled, *([stem[:-1] + "y"] if stem.endswith("i") else [])]


def _is_plural(word: str) -> bool:
    return word.endswith("s") and not word.endswith(("ss", "us")) and "singular" not in lexicon().get(word, ())
