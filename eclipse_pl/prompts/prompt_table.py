"""Prompts of one's own, or of suites that are a list: plain text, CSV, TSV or JSON lines (DrawBench, PartiPrompts)."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eclipse_pl.formats.text_table import DELIMITERS, read_csv, read_json_lines, told
from eclipse_pl.prompts.parser import Parser
from eclipse_pl.prompts.prompt import Prompt, PromptSet
from eclipse_pl.prompts.prompt_lines import no_prompt, read_all, read_lines, require_file

TEXT_COLUMNS = ("prompt", "prompts", "text", "caption")
CATEGORY_COLUMNS = ("category", "categories", "tag")
SUBSET_COLUMNS = ("subset", "challenge")
SUFFIXES = (".txt", *DELIMITERS, ".jsonl")
LONGEST_CATEGORY = 100
"""Bytes; a category names a folder of images."""


@dataclass(frozen=True)
class _Row:
    """A line of a list or a row of a table, with its columns in lower case."""

    number: int
    """From 0, in the whole file: the prompt's id ends with it."""
    line: int
    """From 1: where it begins."""
    cells: dict[str, Any]


def prompt_table(path: Path, parser: Parser, categories: Sequence[str] | None = None) -> PromptSet:
    """Prompts of a file: one a line (.txt), or a table with a column ``Prompt`` (or Prompts, text, caption) and, where there
    is one, ``Category`` (or tag) and ``Challenge`` (or subset). Columns are found in any case.

    The category of a prompt is what its column says, else the file's name without suffix. Its id is the category and the
    number of its line or row from 0 in the whole file, so it does not change when other categories are left out. A prompt
    without a noun phrase stays, and is named in ``failed``: scorers that ask by phrase cannot score it. White space between
    words becomes one blank, so that a prompt is one line wherever it is written.

    ValueError, with the line, for a row without a prompt, for prompts that are no text, and for categories that no folder
    can be called.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path} is no file of prompts by its name; files of prompts end in {', '.join(SUFFIXES)}.")
    require_file(path)
    if suffix == ".txt":
        rows = [_Row(number, number + 1, {TEXT_COLUMNS[0]: line}) for number, line in read_lines(path)]
    else:
        rows = _of_json(path) if suffix == ".jsonl" else _of_csv(path)
    prompts = [_prompt(path, row) for row in rows]
    found = list(dict.fromkeys(prompt.category for prompt in prompts))
    if unknown := [category for category in categories or () if category not in found]:
        raise ValueError(f"{path} has no category {unknown[0]!r}; its categories are {', '.join(found)}.")
    prompts = [prompt for prompt in prompts if categories is None or prompt.category in categories]
    readings = read_all(path, [prompt.text for prompt in prompts], parser)
    failed = tuple(
        (prompt.id, f"{parser.version} finds no noun phrase in {prompt.text!r}")
        for prompt, reading in zip(prompts, readings, strict=True)
        if not reading.phrases
    )
    parsed = (
        Prompt(prompt.id, prompt.category, prompt.text, prompt.subset, reading.phrases)
        for prompt, reading in zip(prompts, readings, strict=True)
    )
    return PromptSet(path.stem, tuple(parsed), parser.version, failed)


def _prompt(path: Path, row: _Row) -> Prompt:
    def first(columns: tuple[str, ...], numbers: bool) -> str:
        for column in columns:
            value = row.cells.get(column)
            if value is None or (isinstance(value, str) and not value.strip()):
                continue
            if not isinstance(value, str) and not (numbers and type(value) is int):
                raise ValueError(f"{path}, line {row.line}, has {told(value)} in its column {column!r}; it must be text.")
            if problem := no_prompt(str(value)):
                raise ValueError(f"{path}, line {row.line}, {problem} in its column {column!r}.")
            return str(value).strip()
        return ""

    text = " ".join(first(TEXT_COLUMNS, numbers=False).split())
    if not text:
        columns = ", ".join(TEXT_COLUMNS)
        raise ValueError(f"Row {row.number + 1} of {path} has no prompt in its column ({columns}): line {row.line}.")
    category = first(CATEGORY_COLUMNS, numbers=True) or path.stem
    if not _names_a_folder(category):
        raise ValueError(
            f"{path}, line {row.line}, has the category {category!r}, which must name a folder of images: no slash or "
            f"backslash, no control character, no dot at its beginning, at most {LONGEST_CATEGORY} bytes."
        )
    return Prompt(f"{category}/{row.number:04d}", category, text, first(SUBSET_COLUMNS, numbers=True))


def _names_a_folder(category: str) -> bool:
    if no_prompt(category) or category.startswith(".") or set(category) & set("/\\"):
        return False
    return len(category.encode()) <= LONGEST_CATEGORY and all(unicodedata.category(letter) != "Cc" for letter in category)


def _of_csv(path: Path) -> list[_Row]:
    rows = [
        _Row(number, row.line, _lower(path, row.line, row.cells)) for number, row in enumerate(read_csv(path, TEXT_COLUMNS))
    ]
    # a row of blank cells is no prompt, but it is counted
    filled = [row for row in rows if any(cell.strip() for cell in row.cells.values())]
    if not filled:
        raise ValueError(f"{path} is empty; one of {', '.join(TEXT_COLUMNS)} must hold the prompts.")
    return filled


def _of_json(path: Path) -> list[_Row]:
    rows = []
    for line, value in read_json_lines(path):
        if not isinstance(value, dict):
            raise ValueError(f"{path}, line {line}, is no JSON object but {told(value)}.")
        rows.append(_Row(line - 1, line, _lower(path, line, value)))
    columns = list(dict.fromkeys(name for row in rows for name in row.cells))
    if not set(columns) & set(TEXT_COLUMNS):
        seen = f"has the columns {', '.join(columns)}" if columns else "is empty"
        raise ValueError(f"{path} {seen}; one of {', '.join(TEXT_COLUMNS)} must hold the prompts.")
    return rows


def _lower(path: Path, line: int, cells: dict[str, Any]) -> dict[str, Any]:
    """The cells by the lower case of their columns' names. ValueError where two names differ in their case alone."""
    lower: dict[str, Any] = {}
    for name, cell in cells.items():
        if (key := name.strip().lower()) in lower:
            raise ValueError(f"{path}, line {line}, has two columns {key!r}, which differ in their case alone. Rename one.")
        lower[key] = cell
    return lower
