"""Tables are read as they were written, or the error names the line."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eclipse_pl.formats.text_table import Row, read_csv, read_json_lines
from tests.test_text_file import ODD

KNOWN = ("prompt", "caption")
CELLS = st.text(st.sampled_from(ODD + "\n"), max_size=5)
TABLES = st.integers(1, 3).flatmap(lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), max_size=4))
quick = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(tmp_path: Path, name: str, content: str) -> list[Row]:
    (tmp_path / name).write_bytes(content.encode())
    return read_csv(tmp_path / name, KNOWN)


@quick
@given(TABLES, st.sampled_from([",", "\t", ";", "|"]), st.sampled_from(["\n", "\r\n"]))
def test_a_table_of_a_spreadsheet_is_read(tmp_path: Path, rows: list[list[str]], delimiter: str, end: str) -> None:
    file = io.StringIO(newline="")
    names = ["Prompt", "b", "c"][: len(rows[0]) if rows else 1]
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([names, *rows])
    try:
        found = read(tmp_path, "a.tsv" if delimiter == "\t" else "a.csv", file.getvalue())
    except ValueError as error:
        assert (line := re.search(r"line (\d+)", str(error))) and int(line[1]) <= file.getvalue().count("\n")
        assert any(odd in cell for row in rows for cell in row for odd in ("\r", "\ufeff", "\t", "\0"))
        return
    # a quoted cell may span lines, whose ends become line feeds
    wanted = [dict(zip(names, (cell.replace("\r\n", "\n") for cell in row), strict=True)) for row in rows]
    assert [row.cells for row in found if any(row.cells.values())] == [row for row in wanted if any(row.values())]


@quick
@given(st.lists(st.lists(st.text(st.sampled_from("ab \",;'é"), min_size=1, max_size=6), min_size=1, max_size=4), min_size=1))
def test_a_table_written_by_hand_is_read_or_refused(tmp_path: Path, rows: list[list[str]]) -> None:
    """Cells are joined with commas and nothing is quoted: as the naive script does that meets a comma in a caption."""
    content = "\n".join(["prompt,b", *map(",".join, rows)]) + "\n"
    try:
        found = read(tmp_path, "a.csv", content)
    except ValueError as error:
        line = re.search(r"line (\d+)", str(error))
        assert line and 2 <= int(line[1]) <= len(rows) + 1
        return
    for row in found:
        written = content.split("\n")[row.line - 1]
        assert ",".join(row.cells.values()) == written or '"' in written or not written.replace(",", "").strip()


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.csv", "prompt,b\nred, blue,x\n", "line 2, has 3 cells, the header has 2"),
        ("a.csv", "prompt,b\nred,x\nblue\n", "line 3, has 1 cell, the header has 2"),
        ("a.csv", "prompt\nred, blue\n", "line 2, has 2 cells, the header has 1"),
        ("a.csv", 'prompt,b\nred,x\n"blue" sign,x\n', "line 3, cannot be cut into cells"),
        ("a.csv", 'prompt,b\nred,x\n"blue,x\ngreen,x\n', "line 3, cannot be cut into cells"),
        ("a.csv", 'prompt,b\n"two\nlines",x\n"blue,x\ngreen,x\n', "line 4, cannot be cut into cells"),
        ("a.csv", 'prompt,b\n"a \\"red\\" sign",x\n', "line 2, cannot be cut into cells"),
        ("a.tsv", 'prompt\tb\n"blue sign\tx\ngreen sign"\tx\n', "line 2, begins a cell with a quotation mark that is closed"),
        ("a.csv", "a red circle,b\nblue,x\n", "has the columns a red circle, b; one of prompt, caption must"),
        ("a.csv", "prompt,prompt\nred,blue\n", "line 1, names the column 'prompt' twice"),
        ("a.csv", "\n \n", "is empty; one of prompt"),
    ],
)
def test_refused(tmp_path: Path, name: str, content: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        read(tmp_path, name, content)


@pytest.mark.parametrize(
    ("name", "content", "cells"),
    [
        ("a.csv", "prompt;b\nred, blue;x\n", {"prompt": "red, blue", "b": "x"}),
        ("a.CSV", "b\tprompt\nx\tred, blue\n", {"b": "x", "prompt": "red, blue"}),
        ("a.tsv", 'prompt\tb\n"say ""hi"""\tx\n', {"prompt": 'say "hi"', "b": "x"}),
        ("a.csv", 'prompt,b\nthe word "hi" on a sign,x\n', {"prompt": 'the word "hi" on a sign', "b": "x"}),
        ("a.csv", ",prompt\n0,red\n", {"prompt": "red"}),  # pandas writes its index without a name
    ],
)
def test_taken(tmp_path: Path, name: str, content: str, cells: dict[str, str]) -> None:
    assert [row.cells for row in read(tmp_path, name, content)] == [cells]


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.csv", 'prompt\n\nred\n"two\nlines"\nblue\n')
    assert [(row.line, row.cells["prompt"]) for row in rows] == [(3, "red"), (4, "two\nlines"), (6, "blue")]


@quick
@given(st.lists(st.text(st.sampled_from(ODD + "\n\ud83c"), max_size=5)))
def test_json_lines(tmp_path: Path, texts: list[str]) -> None:
    for ascii_only in (True, False):
        lines = [json.dumps({"prompt": text}, ensure_ascii=ascii_only) for text in texts]
        if ascii_only or "\ud83c" not in "".join(texts):
            (tmp_path / "a.jsonl").write_bytes("\n".join(lines).encode())
            assert read_json_lines(tmp_path / "a.jsonl") == [(n + 1, {"prompt": text}) for n, text in enumerate(texts)]


@pytest.mark.parametrize("line", ['{"prompt": ', "[" * 100_000, '{"a": 1, "a": 2}', "red", '{"n": ' + "9" * 5000 + "}"])
def test_bad_json_lines(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"prompt": "a"}}\n{line}\n')
    with pytest.raises(ValueError, match=r"a.jsonl, line 2, is no JSON object"):
        read_json_lines(tmp_path / "a.jsonl")
