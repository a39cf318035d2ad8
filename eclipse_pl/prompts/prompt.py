"""A prompt and what its text asks for; a set of prompts, named by its hash."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256


@dataclass(frozen=True)
class Relation:
    """``first`` stands in ``name`` to ``second``: ("bowl", "on the left of", "table")."""

    first: str
    name: str
    second: str


@dataclass(frozen=True)
class Required:
    """So many objects of one class, of one colour or standing somewhere where the prompt says so (GenEval's ``include``)."""

    noun: str
    count: int
    colour: str | None = None
    position: tuple[str, int] | None = None
    """Relation, and number of the entry of ``required`` that the object stands in it to."""


@dataclass(frozen=True)
class Prompt:
    """A caption, and what scorers need to know of it. Which parts are filled depends on the category."""

    id: str
    """Names the prompt in every table: ``color/0007``. Rows are joined by it, never by position."""
    category: str
    text: str
    subset: str = ""
    """Named part of a category, reported apart: ``seen``, ``unseen``, ``spatial``, ``action``. "" where there is none."""
    phrases: tuple[str, ...] = ()
    """Noun phrases, in the order of the text."""
    relation: Relation | None = None
    required: tuple[Required, ...] = ()
    """Objects that must be there, in their numbers."""
    excluded: tuple[Required, ...] = ()
    """Objects that must not be there in such numbers or more (GenEval's ``exclude``)."""
    adjectives: tuple[str, ...] = ()
    """Words that T2I-CompBench's complex category leaves out of the text for its CLIP score."""


@dataclass(frozen=True)
class PromptSet:
    """Prompts of one suite, in order. ``parser`` names what found the phrases, which is a part of every score's version."""

    name: str
    prompts: tuple[Prompt, ...]
    parser: str
    failed: tuple[tuple[str, str], ...] = ()
    """(id, why) of the prompts that the parser found no phrase in. They stay in the set: not every scorer asks by phrase."""

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for prompt in self.prompts:
            if prompt.id in seen:
                raise ValueError(
                    f"Two prompts of {self.name} have the id {prompt.id!r}; ids must differ, rows are joined by them."
                )
            seen.add(prompt.id)

    def __len__(self) -> int:
        return len(self.prompts)

    def __iter__(self) -> Iterator[Prompt]:
        return iter(self.prompts)

    @property
    def categories(self) -> list[str]:
        """In the order in which they first occur."""
        return list(dict.fromkeys(prompt.category for prompt in self.prompts))

    @property
    def sha256(self) -> str:
        """Equal exactly where ids, texts and all that was read from them are equal."""
        return sha256(json.dumps([asdict(prompt) for prompt in self.prompts], sort_keys=True).encode()).hexdigest()
