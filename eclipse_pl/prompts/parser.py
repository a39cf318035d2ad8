"""What a parser says of a text: its words with their parts of speech, and its noun phrases."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

DROPPED_PHRASES = frozenset({"top", "the side", "the left", "the right"})
"""Phrases that name a place rather than a thing; T2I-CompBench's attribute score leaves out exactly these since 2024-01."""


class Word(NamedTuple):
    """A word as it is written, and its universal part of speech (NOUN, ADJ, VERB, ADP, ...)."""

    text: str
    tag: str


class Reading(NamedTuple):
    """One text, read. ``phrases`` are noun phrases as spaCy's ``noun_chunks`` has them, in the order of the text."""

    words: tuple[Word, ...]
    phrases: tuple[str, ...]


class Parser(ABC):
    """Reads texts. Another parser finds other phrases, so its version is a part of the version of every score."""

    @property
    @abstractmethod
    def version(self) -> str:
        """Name and version: equal only where every text is read alike."""

    @abstractmethod
    def read(self, text: str) -> Reading:
        """Words, parts of speech and noun phrases (without ``DROPPED_PHRASES``) of ``text``. A text may have no phrase."""
