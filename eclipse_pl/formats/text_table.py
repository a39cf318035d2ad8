"""Tables in text files: CSV, TSV and JSON lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eclipse_pl.formats.text_file import lines_of, read_text

DELIMITERS = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson")
NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}


@dataclass(frozen=True)
class Row:
    """One row: its first line, from 1, and {column: cell}."""

    line: int
    cells: dict[str, Any]


def read_csv(path: Path, known: Collection[str]) -> list[Row]:
    """Read the rows of a table whose first line names its columns, without blank lines.

    The file's suffix decides the separator. If it gives no column of a ``known`` name (lower case), commas, tabs, semicolons
    and bars are tried.

    Raises:
        ValueError: A row is longer or shorter than the header, a quotation mark does not enclose a cell, or the header has no
            known column or repeats a name. The error states the line.
    """
    lines = lines_of(read_text(path), str(path))
    first = next((number for number, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise ValueError(f"{path} is empty; one of {', '.join(known)} must hold the texts.")
    delimiter = _delimiter(path, lines[first], known)
    (_, header), *records = _records(path, lines, delimiter)
    header = [name.strip() for name in header]
    if twice := [name for name in header if name and header.count(name) > 1]:
        raise ValueError(f"{path}, line {first + 1}, names the column {twice[0]!r} twice.")
    rows = []
    for line, cells in records:
        if not any(cell.strip() for cell in cells) and len(cells) != len(header):
            cells = [""] * len(header)
        if len(cells) != len(header):
            raise ValueError(
                f"{path}, line {line}, has {len(cells)} cell{'s' * (len(cells) != 1)}, the header has {len(header)} "
                f"({', '.join(header)}). {_quoting(delimiter)}"
            )
        if delimiter == "\t" and any("\t" in cell and "\n" in cell for cell in cells):
            raise ValueError(
                f"{path}, line {line}, begins a cell with a quotation mark that is closed lines later. {_quoting(delimiter)}"
            )
        rows.append(Row(line, {name: cell for name, cell in zip(header, cells, strict=True) if name}))
    return rows


def read_json_lines(path: Path) -> list[tuple[int, Any]]:
    """Read (line from 1, value) of every line that is not blank.

    Raises:
        ValueError: A line is not JSON. The error states the line.
    """
    values = []
    for number, line in enumerate(lines_of(read_text(path), str(path)), start=1):
        if line.strip():
            try:
                values.append((number, json.loads(line, object_pairs_hook=_object)))
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}, line {number}, is no JSON object ({error}).") from error
    return values


def described(value: Any) -> str:
    """Describe a value of JSON, Parquet or NumPy for an error: ``a number (2.5)``."""
    kinds: dict[type, str] = {bool: "a boolean", int: "a number", float: "a number", list: "a list", tuple: "a list"}
    kind = "null" if value is None else kinds.get(type(value), "a record" if isinstance(value, dict) else "")
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return kind if value is None else f"{kind or 'a ' + type(value).__name__} ({shown})"


def _delimiter(path: Path, header: str, known: Collection[str]) -> str:
    own = DELIMITERS[path.suffix.lower()]
    for delimiter in (own, *(other for other in NAMES if other != own)):
        try:
            (cells,) = csv.reader([header], delimiter=delimiter, strict=True)
        except (csv.Error, ValueError):  # _records reads a header of several lines
            continue
        if {cell.strip().lower() for cell in cells} & set(known):
            return delimiter
    (_, columns), *_ = _records(path, [header], own)
    seen = ", ".join(name.strip() for name in columns)
    raise ValueError(
        f"{path} has the columns {seen}; one of {', '.join(known)} must hold the texts. The first line names the "
        f"columns, separated by {NAMES[own]}."
    )


def _records(path: Path, lines: Sequence[str], delimiter: str) -> list[tuple[int, list[str]]]:
    """Return (line from 1, cells) of every row that is not blank."""
    reader = csv.reader([f"{line}\n" for line in lines], delimiter=delimiter, strict=True)
    records = []
    line = 1
    try:
        for cells in reader:
            if cells:
                records.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        reason = str(error).replace("\t", r"\t")
        raise ValueError(f"{path}, line {line}, cannot be cut into cells ({reason}). {_quoting(delimiter)}") from error
    return records


def _quoting(delimiter: str) -> str:
    return (
        f"Cells are separated by {NAMES[delimiter]}; a cell that holds one, or begins with a quotation mark, is quoted, and "
        'marks inside it are doubled: "a ""red"" sign".'
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return dict(pairs)
