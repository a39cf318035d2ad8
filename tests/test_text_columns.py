"""Captions and keys in every format that people bring: the strings that were written, or the row that is no string."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep.import_embeddings import import_embeddings
from data_prep.text_columns import CAPTION, KEY, Column, load_column
from tests.test_text_file import ODD

SURROGATES = "\ud83c\udcff"
STRINGS = st.lists(st.text(st.sampled_from(ODD + "\n" + SURROGATES), max_size=5), min_size=1, max_size=5)


def captions(path: Path) -> Column:
    return load_column(str(path), CAPTION, "caption")


def write_text(path: Path, strings: list[str]) -> None:
    path.write_bytes("".join(f"{string}\n" for string in strings).encode())


def write_csv(path: Path, strings: list[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([["key", "caption"], *([str(row), string] for row, string in enumerate(strings))])


def write_parquet(path: Path, strings: list[str]) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    content = [string.encode("utf-8", "surrogatepass") for string in strings]
    parquet.write_table(pa.table({"caption": pa.array(content).view(pa.string())}), path)


FORMATS: dict[str, Callable[[Path, list[str]], Any]] = {
    "c.txt": write_text,
    "c.json": lambda path, strings: path.write_text(json.dumps(strings)),
    "c.jsonl": lambda path, strings: path.write_text("".join(json.dumps({"caption": one}) + "\n" for one in strings)),
    "strings.jsonl": lambda path, strings: path.write_text("".join(json.dumps(one) + "\n" for one in strings)),
    "c.csv": write_csv,
    "c.npy": lambda path, strings: np.save(path, np.array(strings)),
    "column.npy": lambda path, strings: np.save(path, np.array(strings)[:, None]),
    "bytes.npy": lambda path, strings: np.save(path, np.array([one.encode() for one in strings])),
    "c.parquet": write_parquet,
}


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STRINGS, st.sampled_from(sorted(FORMATS)))
def test_what_was_written_is_what_is_read(tmp_path: Path, strings: list[str], name: str) -> None:
    if name.endswith((".json", ".jsonl")):  # where two halves beside each other are a whole
        strings = [json.loads(json.dumps(string)) for string in strings]
    halves = any(set(string) & set(SURROGATES) for string in strings)
    if name.endswith((".txt", ".csv")) or name == "bytes.npy":  # these cannot hold halves of characters
        strings = [string.translate(dict.fromkeys(map(ord, SURROGATES))) for string in strings]
        halves = False
    if name == "c.txt":
        strings = [string.replace("\n", "").rstrip("\r") for string in strings]
    if name.endswith(".npy"):  # numpy pads with NUL
        strings = [string.rstrip("\0") for string in strings]
    if name == "c.txt":
        strings[0] = strings[0].lstrip("\ufeff")
    if name == "c.csv" and sys.version_info < (3, 11):  # whose writer takes no NUL
        strings = [string.replace("\0", "") for string in strings]
    FORMATS[name](tmp_path / name, strings)
    try:
        found = captions(tmp_path / name)
    except ValueError as error:
        assert name in str(error) and "line " in str(error)
        assert name.endswith((".txt", ".csv")) and any(odd in string for string in strings for odd in "\r\ufeff\0")
        return
    if name == "c.csv":
        strings = [string.replace("\r\n", "\n") for string in strings]
    assert len(found.strings) == len(strings)
    for row, string in enumerate(strings):
        if not string.strip():
            assert found.bad[row] == "no caption"
        elif halves and set(string) & set(SURROGATES):
            assert "half of a character" in found.bad[row] or "no UTF-8" in found.bad[row]
        else:
            assert row not in found.bad and found.strings[row] == string


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        (
            "c.json",
            ["a", 1],
            r"row 1 \(the first is 0\) is a number \(1\); a caption is one string, and null where",
        ),
        ("c.json", [2.5], r"row 0 .* is a number \(2.5\)"),
        ("c.json", ["a", True], r"row 1 .* is a boolean \(True\)"),
        ("c.json", [["a", "b"]], r"row 0 .* is a list \(\['a', 'b'\]\)"),
        ("c.json", [{"caption": "a"}], r"row 0 .* is a record"),
        ("c.json", {"0": "a"}, r"must be a list of strings, got a record"),
        ("c.json", "a", r"must be a list of strings, got a str \('a'\)"),
        ("c.npy", np.arange(3), r"is an array of int64; a caption is one string"),
        ("c.npy", np.array(["2020-01-01"], "datetime64[ns]"), r"is an array of datetime64\[ns\]"),
        ("c.npy", np.array([True]), "is an array of bool"),
        (
            "c.npy",
            np.array([["a", "b"], ["c", "d"]]),
            r"has the shape \(2, 2\).*Several captions of an image are",
        ),
        (
            "c.npy",
            np.array(["a", None], object),
            r"holds Python objects, which cannot be read without.*astype\(str\)",
        ),
    ],
)
def test_what_is_no_caption(tmp_path: Path, name: str, value: Any, match: str) -> None:
    if name.endswith(".npy"):
        np.save(tmp_path / name, value, allow_pickle=True)
    else:
        (tmp_path / name).write_text(json.dumps(value))
    with pytest.raises(ValueError, match=match):
        captions(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("c.json", '{"caption": "a"}\n{"caption": "b"}\n', r"is no JSON .*Name a file of JSON lines \*\.jsonl"),
        ("c.txt", '{"caption": "a"}\n{"caption": "b"}\n', "line 1, is a JSON record, not a caption"),
        ("c.jsonl", '{"caption": "a"}\n{"text": "b"}\n', "line 2, has no 'caption', as other lines have"),
        ("c.jsonl", '{"caption": "a"}\n"b"\n', r"line 2, is a str \('b'\), where other lines are records"),
        ("c.jsonl", '"a"\n[1]\n', r"row 1 .* is a list \(\[1\]\)"),
        ("c.jsonl", '{"text": "a", "TEXT": "b"}\n', "has the columns text, TEXT: several may hold the captions"),
        ("c.csv", "caption\nred, blue\n", "line 2, has 2 cells, the header has 1"),
        ("c.csv", "title,url\na,b\n", "has the columns title, url; one of caption, captions, text"),
        (
            "c.tsv",
            "text\tprompt\na\tb\n",
            r"several may hold the captions \(text, prompt\). Name it with --names.caption",
        ),
    ],
)
def test_what_is_no_list_of_captions(tmp_path: Path, name: str, content: str, match: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=match):
        captions(tmp_path / name)


def test_one_caption_without_a_dimension(tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", np.array("one caption"))
    assert captions(tmp_path / "c.npy").strings == ["one caption"]


def test_a_column_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.csv").write_text("id;title;text\n7;a;b\n8;;c\n")
    found = load_column(str(tmp_path / "c.csv"), CAPTION, "title")
    assert found.strings == ["a", ""] and found.bad == {1: "no caption"}
    assert "the captions are its column 'title', not 'text'" in capsys.readouterr().out
    assert captions(tmp_path / "c.csv").strings == ["b", "c"]
    assert load_column(str(tmp_path / "c.csv"), KEY, "image_id").strings == ["7", "8"]
    assert "the keys are its column 'id'" in capsys.readouterr().out


def test_keys(tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", np.array([7, 2**60], np.int64))
    assert load_column(str(tmp_path / "k.npy"), KEY, "key").strings == ["7", str(2**60)]
    (tmp_path / "k.json").write_text('[7, null, "", "a", "cut \\ud83c"]')
    found = load_column(str(tmp_path / "k.json"), KEY, "key")
    assert found.strings == ["7", "", "", "a", ""]
    assert found.bad == {
        1: "no key",
        2: "no key",
        4: "odd characters (its key holds half of a character (the lone surrogate U+D83C))",
    }
    (tmp_path / "k.json").write_text("[7.0]")
    with pytest.raises(ValueError, match=r"row 0 .* is a number \(7.0\); a key is one string or whole number"):
        load_column(str(tmp_path / "k.json"), KEY, "key")


def test_a_skipped_pair_is_named(tmp_path: Path) -> None:
    """Null, half a character and a missing key cost a pair each, with its key; never the run."""
    rng = np.random.default_rng(0)
    for name in ("i", "t"):
        np.save(tmp_path / f"{name}.npy", rng.normal(size=(5, 4)))
    (tmp_path / "c.json").write_text('["a", null, "cut \\ud83c", " ", "e"]')
    (tmp_path / "k.json").write_text('["ka", "kb", "kc", "kd", null]')
    files = {"image_embeds": "i.npy", "text_embeds": "t.npy", "captions": "c.json", "keys": "k.json"}
    manifest = import_embeddings(str(tmp_path / "set"), **{name: str(tmp_path / file) for name, file in files.items()})
    assert manifest.pairs == 1
    assert {pair.key: pair.reason.partition(" (")[0] for pair in manifest.shards[0].skipped} == {
        "kb": "no caption",
        "kc": "odd characters",
        "kd": "no caption",
        "row 4": "no key",
    }


def test_a_blank_last_line_is_named(tmp_path: Path) -> None:
    for name in ("i", "t"):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(0).normal(size=(2, 4)))
    files = {"image_embeds": str(tmp_path / "i.npy"), "text_embeds": str(tmp_path / "t.npy")}
    (tmp_path / "c.txt").write_text("a\nb\n\n")
    with pytest.raises(ValueError, match=r"3 captions, .* The last line of .*c.txt \(3\) is blank: remove it"):
        import_embeddings(str(tmp_path / "set"), captions=str(tmp_path / "c.txt"), **files)
    (tmp_path / "c.txt").write_text("a\nb\n")
    assert import_embeddings(str(tmp_path / "set"), captions=str(tmp_path / "c.txt"), **files).pairs == 2
