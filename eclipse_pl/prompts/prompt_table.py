"""Prompts of one's own, or of suites that are a list: plain text, CSV, TSV or JSON lines (DrawBench, PartiPrompts)."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from eclipse_pl.prompts.parser import Parser
from eclipse_pl.prompts.prompt import Prompt, PromptSet
from eclipse_pl.prompts.prompt_lines import read_all, read_lines, read_text

TEXT_COLUMNS = ("prompt", "prompts", "text", "caption")
CATEGORY_COLUMNS = ("category", "categories", "tag")
SUBSET_COLUMNS = ("subset", "challenge")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (".txt", *DELIMITERS, ".jsonl")


def prompt_table(path: Path, parser: Parser, categories: Sequence[str] | None = None) -> PromptSet:
    """Prompts of a file: one a line (.txt), or a table with a column ``Prompt`` (or Prompts, text, caption) and, where there
    is one, ``Category`` (or tag) and ``Challenge`` (or subset). Columns are found in any case.

    The category of a prompt is what its column says, else the file's name without suffix. Its id is the category and the
    number of its line or row from 0 in the whole file, so it does not change when other categories are left out. A prompt
    without a noun phrase stays, and is named in ``failed``: judges that ask by phrase cannot score it.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path} is no file of prompts by its name; files of prompts end in {', '.join(SUFFIXES)}.")
    rows = [(number, {"prompt": line}) for number, line in read_lines(path)] if path.suffix == ".txt" else _table(path)
    prompts = [_prompt(path, number, row) for number, row in rows]
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


def _prompt(path: Path, number: int, row: dict[str, str]) -> Prompt:
    def first(columns: tuple[str, ...], otherwise: str) -> str:
        return next((row[column].strip() for column in columns if row.get(column, "").strip()), otherwise)

    text = " ".join(first(TEXT_COLUMNS, "").split())
    if not text:
        raise ValueError(f"Row {number + 1} of {path} has no prompt in its column ({', '.join(TEXT_COLUMNS)}).")
    category = first(CATEGORY_COLUMNS, path.stem)
    return Prompt(f"{category}/{number:04d}", category, text, first(SUBSET_COLUMNS, ""))


def _table(path: Path) -> list[tuple[int, dict[str, str]]]:
    """(number from 0, {column in lower case: cell}) of every row. ValueError where no column holds prompts."""
    if path.suffix == ".jsonl":
        rows = [_json_row(path, number, line) for number, line in read_lines(path)]
    else:
        reader = csv.DictReader(read_text(path).splitlines(keepends=True), delimiter=DELIMITERS[path.suffix])
        rows = [(number, {str(name): str(cell) for name, cell in row.items() if cell}) for number, row in enumerate(reader)]
    rows = [(number, {name.strip().lower(): cell for name, cell in row.items()}) for number, row in rows if row]
    columns = list(dict.fromkeys(name for _, row in rows for name in row))
    if not set(columns) & set(TEXT_COLUMNS):
        told = f"has the columns {', '.join(columns)}" if columns else "is empty"
        raise ValueError(f"{path} {told}; one of {', '.join(TEXT_COLUMNS)} must hold the prompts.")
    return rows


def _json_row(path: Path, number: int, line: str) -> tuple[int, dict[str, str]]:
    try:
        row = json.loads(line)
        return number, {str(name): str(cell) for name, cell in row.items() if cell is not None}
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}, line {number + 1}, is no JSON object ({error}).") from error
