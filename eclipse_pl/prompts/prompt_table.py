"""A list of prompts, such as your own, DrawBench or PartiPrompts: plain text, CSV, TSV or JSON lines."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eclipse_pl.formats.text_table import DELIMITERS, described, read_csv, read_json_lines
from eclipse_pl.prompts.parser import Parser
from eclipse_pl.prompts.parsing import parse_all
from eclipse_pl.prompts.prompt import Prompt, PromptSet
from eclipse_pl.prompts.prompt_lines import prompt_problem, read_lines, require_file

TEXT_COLUMNS = ("prompt", "prompts", "text", "caption")
CATEGORY_COLUMNS = ("category", "categories", "tag")
SUBSET_COLUMNS = ("subset", "challenge")
SUFFIXES = (".txt", *DELIMITERS, ".jsonl")
LONGEST_CATEGORY = 100
"""Bytes; a category names a folder of images."""


@dataclass(frozen=True)
class _Row:
    """A line of a list, or a row of a table with the names of its columns in lower case."""

    number: int
    """Its number from 0 in the whole file. The prompt's id ends with it."""
    line: int
    """The line from 1 on which it begins."""
    cells: dict[str, Any]


def prompt_table(path: Path, parser: Parser | None = None, categories: Sequence[str] | None = None) -> PromptSet:
    """Return the prompts of a file.

    The file has one prompt a line (.txt), or is a table with the column ``Prompt`` (or Prompts, text, caption) and the
    optional columns ``Category`` (or tag) and ``Challenge`` (or subset), in upper or lower case.

    The category of a prompt is the value of its column, or the file's name without suffix. Its id is the category and the
    number of its line or row from 0 in the whole file, so that it does not depend on the categories that are read. A prompt
    without a noun phrase stays in the set and is listed in ``failed``: scorers that ask about phrases cannot score it. White
    space between words becomes one blank, so that every prompt fits on one line.

    Args:
        path: The file.
        parser: What parses the prompts; see `parse_all` for None.
        categories: The categories to read; all if None.

    Raises:
        ValueError: The file is missing or of another kind, a category is not in it, a row has no prompt, or a prompt or a
            category has characters that it cannot have. The error names the line.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path} is not a file of prompts by its name; files of prompts end in {', '.join(SUFFIXES)}.")
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
    parsed = parse_all(path, [prompt.text for prompt in prompts], parser)
    prompts = [replace(prompt, phrases=parse.phrases) for prompt, parse in zip(prompts, parsed.parses, strict=True)]
    failed = tuple(
        (prompt.id, f"{parsed.parser} finds no noun phrase in {prompt.text!r}") for prompt in prompts if not prompt.phrases
    )
    return PromptSet(path.stem, tuple(prompts), parsed.parser, failed, tuple(found))


def _prompt(path: Path, row: _Row) -> Prompt:
    def first(columns: tuple[str, ...], numbers: bool) -> str:
        for column in columns:
            value = row.cells.get(column)
            if value is None or (isinstance(value, str) and not value.strip()):
                continue
            if not isinstance(value, str) and not (numbers and type(value) is int):
                raise ValueError(f"{path}, line {row.line}, has {described(value)} in its column {column!r}; it must be text.")
            if problem := prompt_problem(str(value)):
                raise ValueError(f"{path}, line {row.line}, {problem} in its column {column!r}.")
            return str(value).strip()
        return ""

    text = " ".join(first(TEXT_COLUMNS, numbers=False).split())
    if not text:
        columns = ", ".join(TEXT_COLUMNS)
        raise ValueError(f"Row {row.number + 1} of {path} has no prompt in its column ({columns}): line {row.line}.")
    category = first(CATEGORY_COLUMNS, numbers=True) or path.stem
    if not names_a_folder(category):
        raise ValueError(
            f"{path}, line {row.line}, has the category {category!r}, which must name a folder of images: no slash or "
            f"backslash, no control character, no dot at its beginning, at most {LONGEST_CATEGORY} bytes."
        )
    return Prompt(f"{category}/{row.number:04d}", category, text, first(SUBSET_COLUMNS, numbers=True))


def names_a_folder(category: str) -> bool:
    """Return whether a name can be that of a folder or a file of images."""
    if prompt_problem(category) or category.startswith(".") or set(category) & set("/\\"):
        return False
    return len(category.encode()) <= LONGEST_CATEGORY and all(unicodedata.category(letter) != "Cc" for letter in category)


def _of_csv(path: Path) -> list[_Row]:
    rows = [
        _Row(number, row.line, _lower(path, row.line, row.cells)) for number, row in enumerate(read_csv(path, TEXT_COLUMNS))
    ]
    # a row of blank cells is not a prompt, but it counts
    filled = [row for row in rows if any(cell.strip() for cell in row.cells.values())]
    if not filled:
        raise ValueError(f"{path} is empty; one of {', '.join(TEXT_COLUMNS)} must hold the prompts.")
    return filled


def _of_json(path: Path) -> list[_Row]:
    rows = []
    for line, value in read_json_lines(path):
        if not isinstance(value, dict):
            raise ValueError(f"{path}, line {line}, is not a JSON object but {described(value)}.")
        rows.append(_Row(line - 1, line, _lower(path, line, value)))
    columns = list(dict.fromkeys(name for row in rows for name in row.cells))
    if not set(columns) & set(TEXT_COLUMNS):
        seen = f"has the columns {', '.join(columns)}" if columns else "is empty"
        raise ValueError(f"{path} {seen}; one of {', '.join(TEXT_COLUMNS)} must hold the prompts.")
    return rows


def _lower(path: Path, line: int, cells: dict[str, Any]) -> dict[str, Any]:
    """Return the cells by their columns' names in lower case.

    Raises:
        ValueError: Two names differ only in case.
    """
    lower: dict[str, Any] = {}
    for name, cell in cells.items():
        if (key := name.strip().lower()) in lower:
            raise ValueError(f"{path}, line {line}, has two columns {key!r}, which differ only in case. Rename one.")
        lower[key] = cell
    return lower
