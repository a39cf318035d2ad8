"""The prompts of a file, parsed: from the shipped parses, from the cache in the file's folder, or by a parser."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from eclipse_pl.files import write_atomically
from eclipse_pl.prompts.parser import Parse, Parser, Word
from eclipse_pl.prompts.prompt import Prompt
from eclipse_pl.prompts.record import RECORD_NAME, file_sha256
from eclipse_pl.prompts.shipped_parses import shipped_parses
from eclipse_pl.prompts.spacy_parser import SpacyParser


class ParsedTexts(NamedTuple):
    """The parse of every text, in order."""

    parses: list[Parse]
    parsers: tuple[str, ...]
    """The versions of the parsers that made them."""

    @property
    def parser(self) -> str:
        return named(self.parsers)


class PhrasedPrompts(NamedTuple):
    """Prompts with their noun phrases, what found them ("" for nothing), and (id, reason) of those without a phrase."""

    prompts: tuple[Prompt, ...]
    parser: str
    failed: tuple[tuple[str, str], ...]


def with_phrases(path: Path, prompts: Sequence[Prompt], parser: Parser | None) -> PhrasedPrompts:
    """Find the noun phrases of a suite that needs none: only where a parser is given."""
    if parser is None:
        return PhrasedPrompts(tuple(prompts), "", ())
    parsed = parse_all(path, [prompt.text for prompt in prompts], parser)
    found = tuple(replace(prompt, phrases=parse.phrases) for prompt, parse in zip(prompts, parsed.parses, strict=True))
    failed = tuple(
        (prompt.id, f"{parsed.parser} finds no noun phrase in {prompt.text!r}") for prompt in found if not prompt.phrases
    )
    return PhrasedPrompts(found, parsed.parser, failed)


def named(parsers: Iterable[str]) -> str:
    """Return one name for the versions of several parsers."""
    return " and ".join(sorted(set(parsers)))


def parse_all(path: Path, texts: Sequence[str], parser: Parser | None) -> ParsedTexts:
    """Parse texts of the file ``path``.

    Args:
        path: The file that holds the texts.
        texts: The texts to parse.
        parser: What parses all of them. None looks up each text among the shipped parses, and spaCy parses the others.
            Where all are shipped, it does not matter whether spaCy is installed.

    Raises:
        ValueError: A text has no shipped parse, and spaCy or its model is not installed.
    """
    if parser is not None:
        return ParsedTexts(_parse_or_load(path, texts, parser), (parser.version,))
    shipped = shipped_parses()
    others = [text for text in texts if text not in shipped]
    if not others:
        return ParsedTexts([shipped[text] for text in texts], (shipped.parser,))
    try:
        parser = SpacyParser()
    except ValueError as error:
        raise ValueError(f"{path} has prompts that are not T2I-CompBench's ({others[0]!r}): {error}") from error
    found = dict(zip(others, _parse_or_load(path, others, parser), strict=True))
    parsers = (parser.version,) if len(others) == len(texts) else (shipped.parser, parser.version)
    return ParsedTexts([found[text] if text in found else shipped[text] for text in texts], parsers)


def cache_path(path: Path) -> Path:
    """Return the file that caches the parses of the prompt file ``path``."""
    return path.with_name(path.name + ".parsed.json")


def _parse_or_load(path: Path, texts: Sequence[str], parser: Parser) -> list[Parse]:
    """Return the parse of every text. A folder that `data_prep prompts` made caches them, by file hash and parser version."""
    if not (path.parent / RECORD_NAME).is_file():
        return [parser.parse(text) for text in texts]
    cache = cache_path(path)
    key = {"parser": parser.version, "sha256": file_sha256(path)}
    cached = _cached(cache, key)
    found = {text: cached[text] if text in cached else parser.parse(text) for text in texts}
    if found.keys() - cached.keys():
        with suppress(OSError):  # the disk is full or the folder is read-only: the next run parses again
            write_atomically(cache, json.dumps({**key, "parses": {**cached, **found}}, ensure_ascii=False).encode())
    return [found[text] for text in texts]


def _cached(cache: Path, key: dict[str, str]) -> dict[str, Parse]:
    """Return the cached parses; none where the cache is missing or damaged, or has another key."""
    try:
        content = json.loads(cache.read_text(encoding="utf-8"))
        if {name: content[name] for name in key} != key:
            return {}
        return {
            str(text): Parse(tuple(Word(str(word), str(tag)) for word, tag in words), tuple(map(str, phrases)))
            for text, (words, phrases) in content["parses"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
