"""Our own grammar of prompts: no model, the same on every machine."""

from __future__ import annotations

import re

from eclipse_pl.prompts.parser import DROPPED_PHRASES, Parser, Reading, Word
from eclipse_pl.prompts.tagger import Tagger

VERSION = "1"
"""Raised whenever any text is read in another way: scores of two versions are not compared."""
WORD = re.compile(r"\d+(?:[:.,/]\d+)*(?:[a-z]+)?|[^\W\d_]+(?:-[^\W_]+)*|['’]s\b|[^\w\s]|_")


class GrammarParser(Parser):
    """Reads by closed word classes, a small lexicon of adjectives and verbs (``words.txt``) and the rules in ``tagger.py``.

    Made for the sentences of T2I-CompBench and for captions like MSCOCO's. It differs from a statistical parser on purpose
    where words name a place ("in front of", "in mid-air"): these are one preposition or adverb, and ``front`` no phrase.
    """

    @property
    def version(self) -> str:
        return f"grammar-{VERSION}"

    def read(self, text: str) -> Reading:
        found = list(WORD.finditer(text))
        tagger = Tagger([match.group().lower() for match in found])
        phrases = (text[found[start].start() : found[end - 1].end()] for start, end in tagger.phrases)
        words = tuple(Word(match.group(), tag) for match, tag in zip(found, tagger.tags, strict=True))
        return Reading(words, tuple(phrase for phrase in phrases if phrase not in DROPPED_PHRASES))
