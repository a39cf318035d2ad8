"""spaCy's parses of T2I-CompBench's 2,400 validation prompts, which come with the package."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from eclipse_pl.prompts.parser import Parse, Word


class ShippedParses:
    """Parses by the text of the prompt.

    Attributes:
        parser: The version of the parser that made them: spaCy's version, and the model's name and version.
        files: Name and SHA-256 of each of upstream's files whose prompts are parsed.
    """

    def __init__(self, path: Path) -> None:
        content = json.loads(path.read_text(encoding="utf-8"))
        self.parser: str = content["parser"]
        self.files: dict[str, str] = content["files"]
        self._parses: dict[str, tuple[str, list[str]]] = content["parses"]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parses)

    def __contains__(self, text: str) -> bool:
        return text in self._parses

    def __getitem__(self, text: str) -> Parse:
        words, phrases = self._parses[text]
        return Parse(tuple(Word(*word.rsplit("/", 1)) for word in words.split()), tuple(phrases))


@cache
def shipped_parses() -> ShippedParses:
    return ShippedParses(Path(__file__).with_name("compbench_parses.json"))
