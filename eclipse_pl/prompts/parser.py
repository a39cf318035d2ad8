"""A parser and what it finds in a text: words with their parts of speech, and noun phrases."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

DROPPED_PHRASES = frozenset({"top", "the side", "the left", "the right"})
"""Phrases that name a place rather than an object. T2I-CompBench's attribute score leaves out exactly these since 2024-01."""


class Word(NamedTuple):
    """A word as the text has it, and its universal part of speech (NOUN, ADJ, VERB, ADP, ...)."""

    text: str
    tag: str


class Parse(NamedTuple):
    """The words and the noun phrases of a text, both in the text's order. Noun phrases are spaCy's ``noun_chunks``."""

    words: tuple[Word, ...]
    phrases: tuple[str, ...]


class Parser(ABC):
    """Parses texts. Two parsers find different phrases, so the parser's version is part of every score's version."""

    @property
    @abstractmethod
    def version(self) -> str:
        """Name and version. Two parsers with the same version parse every text alike."""

    @abstractmethod
    def parse(self, text: str) -> Parse:
        """Return the words and the noun phrases of ``text``, without ``DROPPED_PHRASES``. A text may have no phrase."""


class NoParser(Parser):
    """Finds nothing, and needs no spaCy: for prompts whose scorers ask for no noun phrases (CLIP score, FID)."""

    @property
    def version(self) -> str:
        return "NoParser"

    def parse(self, text: str) -> Parse:
        return Parse((), ())
