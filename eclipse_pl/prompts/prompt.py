"""A prompt and what its text asks for, and a set of prompts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any


@dataclass(frozen=True)
class Relation:
    """The relation ``name`` of object ``first`` to object ``second``: ("bowl", "on the left of", "table")."""

    first: str
    name: str
    second: str


@dataclass(frozen=True)
class Required:
    """``count`` objects of one class, and their colour or position if the prompt names it (GenEval's ``include``)."""

    noun: str
    count: int
    colour: str | None = None
    position: tuple[str, int] | None = None
    """A relation, and the index in ``Prompt.required`` of the object that it relates to."""


@dataclass(frozen=True)
class Question:
    """A question that a suite publishes about the images of a prompt."""

    text: str
    kind: str = ""
    """What it asks about, in the suite's words: ``entity``, ``attribute``, ``count``."""
    answer: str = "yes"
    """The right answer: ``yes``, or a word such as ``four``."""
    parents: tuple[int, ...] = ()
    """Indices in ``Prompt.questions``. The question only counts where none of these is answered by "no"."""


@dataclass(frozen=True)
class Prompt:
    """A caption and what scorers need to know about it. Which fields are filled depends on the category."""

    id: str
    """The prompt's name in every table, such as ``color/0007``. Tables are joined by it, never by position."""
    category: str
    text: str
    subset: str = ""
    """The part of the category that is reported separately: ``seen``, ``unseen``, ``spatial``, ``action``; "" for none."""
    phrases: tuple[str, ...] = ()
    """Noun phrases, in the order of the text."""
    relation: Relation | None = None
    required: tuple[Required, ...] = ()
    """Objects that an image must show, and how many."""
    excluded: tuple[Required, ...] = ()
    """Objects of which an image must show fewer than ``count`` (GenEval's ``exclude``)."""
    adjectives: tuple[str, ...] = ()
    """Words that T2I-CompBench's complex category removes from the text for its CLIP score."""
    questions: tuple[Question, ...] = ()
    """The questions that its suite publishes, in the suite's order."""


@dataclass(frozen=True)
class PromptSet:
    """The prompts of one suite, in order. ``parser`` names what found the phrases and is part of every score's version."""

    name: str
    prompts: tuple[Prompt, ...]
    parser: str
    failed: tuple[tuple[str, str], ...] = ()
    """(id, reason) of the prompts without a noun phrase. They stay in the set, as not every scorer asks about phrases."""
    of_suite: tuple[str, ...] = ()
    """All categories of the suite, also those that were not read. Empty: those of the prompts."""

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for prompt in self.prompts:
            if prompt.id in seen:
                raise ValueError(
                    f"Two prompts of {self.name} have the id {prompt.id!r}; ids must differ, as rows are joined by them."
                )
            seen.add(prompt.id)

    def __len__(self) -> int:
        return len(self.prompts)

    def __iter__(self) -> Iterator[Prompt]:
        return iter(self.prompts)

    @property
    def categories(self) -> list[str]:
        """The categories, in the order in which they first occur."""
        return list(dict.fromkeys(prompt.category for prompt in self.prompts))

    @property
    def known_categories(self) -> list[str]:
        """The categories that may be named: those of the suite, whether or not their prompts were read."""
        return list(dict.fromkeys((*self.of_suite, *self.categories)))

    @property
    def sha256(self) -> str:
        """A hash of ids, texts and all that was found in them: two sets are the same exactly if their hashes are."""
        return sha256(json.dumps([_facts(prompt) for prompt in self.prompts], sort_keys=True).encode()).hexdigest()


def _facts(prompt: Prompt) -> dict[str, Any]:
    """Return all of a prompt. Without questions there is no entry for them, so that hashes of such sets stay as they were."""
    facts = asdict(prompt)
    if not prompt.questions:
        del facts["questions"]
    return facts
