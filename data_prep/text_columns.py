"""Captions and keys in files of other programs: text, JSON, tables and arrays, one string a row or one sentence why not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.array_files import arrays_in, parquet
from eclipse_pl.formats.columns import usual_column
from eclipse_pl.formats.file_kind import kind_of
from eclipse_pl.formats.text_file import lines_of, read_text, unusable
from eclipse_pl.formats.text_table import DELIMITERS, JSON_LINES, described, read_csv, read_json_lines
from eclipse_pl.raw.reasons import BAD_CAPTION, NO_CAPTION, NO_KEY, ODD_TEXT


@dataclass(frozen=True)
class Kind:
    """The use of a column: its name in sentences, where its name is set, names that it has elsewhere, and its numbers."""

    name: str
    option: str
    elsewhere: tuple[str, ...]
    numbers: bool
    """Whether whole numbers are taken as text."""

    @property
    def expected(self) -> str:
        return f"a {self.name} is one string{' or whole number' * self.numbers}, and null where there is none"


CAPTION = Kind("caption", "--names.caption", ("caption", "captions", "text", "texts", "prompt"), numbers=False)
KEY = Kind("key", "--names.key", ("key", "keys", "image_id", "image_path", "id", "filename", "file_name"), numbers=True)


@dataclass
class Column:
    """One string a row. ``bad`` holds why a row has none; its string is then empty."""

    strings: list[str] = field(default_factory=list)
    bad: dict[int, str] = field(default_factory=dict)
    remark: str = ""
    """A sentence that explains why there are more rows than elsewhere."""

    def extend(self, other: Column) -> None:
        start = len(self.strings)
        self.strings += other.strings
        self.bad |= {start + row: reason for row, reason in other.bad.items()}


def column(values: Iterable[Any], kind: Kind, place: str) -> Column:
    """Strings of values of any type: bytes are UTF-8, null is none.

    ValueError, with the row and the type, for a value that was never meant as one string.
    """
    found = Column()
    for row, value in enumerate(values):
        reason = None
        if isinstance(value, bytes):
            try:
                value = value.decode()
            except UnicodeDecodeError:
                reason = f"{BAD_CAPTION} (it is no UTF-8)" if kind is CAPTION else f"{ODD_TEXT} (its key is no UTF-8)"
        if reason is None and kind.numbers and type(value) is int:
            value = str(value)
        if value is None or (isinstance(value, str) and not value.strip()):
            reason = NO_CAPTION if kind is CAPTION else NO_KEY
        elif not isinstance(value, str | bytes):
            raise ValueError(f"{place}: row {row} (the first is 0) is {described(value)}; {kind.expected}.")
        elif isinstance(value, str) and (problem := unusable(value)):
            reason = f"{ODD_TEXT} (its {kind.name} {problem})"
        if reason is not None:
            found.bad[row] = reason
            value = ""
        found.strings.append(str(value))
    return found


def of_array(array: np.ndarray | list[Any], kind: Kind, place: str) -> Column:
    """Strings of an array, or of a column's values. ValueError for several strings a row, and for values that are no text."""
    if isinstance(array, np.ndarray):
        if array.dtype.kind not in ("U", "S", *("iu" if kind.numbers else "")):
            raise ValueError(f"{place} is an array of {array.dtype}; {kind.expected}: numpy.array(strings).")
        if array.ndim != 1 and not (array.ndim == 0 or array.shape[1:] == (1,)):
            raise ValueError(
                f"{place} has the shape {array.shape}; {kind.expected}. Several captions of an image are several rows, each "
                "with the embedding of the image."
            )
        try:
            array = array.reshape(-1).tolist()
        except ValueError as error:  # numpy keeps four bytes a character, whatever they are
            raise ValueError(f"{place} holds a value that is no text ({error}).") from error
    return column(array, kind, place)


def load_column(path: str, kind: Kind, name: str) -> Column:
    """Captions or keys of a file, by its content and then by its suffix.

    An npy array; a column of Parquet, of .csv or .tsv; .json, a list; .jsonl, strings or records with the column ``name``;
    anything else is text, one string a line.
    """
    if Path(path).is_file():
        binary = kind_of(path)
        if binary == "Parquet":
            columns = parquet(path)
            return of_array(columns[chosen(list(columns), kind, name, path)](), kind, path)
        if binary in ("npy", "npz", "safetensors"):
            arrays = arrays_in(path)
            if "" not in arrays:
                raise ValueError(f"{path} holds several arrays ({', '.join(arrays)}). Give it as --arrays.")
            return of_array(arrays[""](), kind, path)
    suffix = Path(path).suffix.lower()
    if suffix in DELIMITERS:
        rows = read_csv(Path(path), tuple(dict.fromkeys([name.lower(), *kind.elsewhere])))
        if not rows:
            return Column()
        taken = chosen(list(rows[0].cells), kind, name, path)
        return column((row.cells[taken] for row in rows), kind, path)
    if suffix in JSON_LINES:
        return _of_records(read_json_lines(Path(path)), kind, name, path)
    text = read_text(path)
    if suffix == ".json":
        return _of_json(text, kind, path)
    lines = lines_of(text, path)
    if lines and lines[0].startswith('{"') and _is_record(lines[0]):
        raise ValueError(f"{path}, line 1, is a JSON record, not a {kind.name}. Name a file of JSON lines *.jsonl.")
    found = column(lines, kind, path)
    if len(lines) > 1 and not lines[-1].strip():
        found.remark = f"The last line of {path} ({len(lines)}) is blank: remove it if it is no {kind.name}."
    return found


def chosen(columns: Sequence[str], kind: Kind, name: str, place: str) -> str:
    """The column called ``name``, else the only one with another usual name. ValueError where several or none are there.

    Where there was a choice, or the name is another, the one that is taken is printed.
    """
    if name in columns:
        others = [one for one in columns if one != name and one.strip().lower() in kind.elsewhere]
        if others and kind is CAPTION:
            print(f"{place}: the captions are its column {name!r}, not {', '.join(map(repr, others))}")
        return name
    found = usual_column(columns, kind.elsewhere, kind.name, kind.option, place)
    print(f"{place}: the {kind.name}s are its column {found!r}")
    return found


def _of_records(rows: list[tuple[int, Any]], kind: Kind, name: str, path: str) -> Column:
    names = list(dict.fromkeys(key for _, value in rows if isinstance(value, dict) for key in value))
    taken = chosen(names, kind, name, path) if names else name
    values = []
    for line, value in rows:
        if isinstance(value, dict) and taken not in value:
            raise ValueError(f"{path}, line {line}, has no {taken!r}, as other lines have. Write null where there is none.")
        if names and not isinstance(value, dict):
            raise ValueError(f"{path}, line {line}, is {described(value)}, where other lines are records.")
        values.append(value[taken] if names else value)
    return column(values, kind, path)


def _of_json(text: str, kind: Kind, path: str) -> Column:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        hint = " Name a file of JSON lines *.jsonl." if "Extra data" in str(error) else ""
        raise ValueError(f"{path} is no JSON ({error}).{hint}") from error
    if not isinstance(values, list):
        raise ValueError(f"{path} must be a list of strings, got {described(values)}.")
    return column(values, kind, path)


def _is_record(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
