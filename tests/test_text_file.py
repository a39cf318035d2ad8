"""Text files of any making: cut at line feeds alone, other encodings named, odd characters kept."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eclipse_pl.formats.text_file import decoded, lines_of, read_text, unusable

ODD = "\x0b\x0c\x1c\x1d\x1e\x1f\x85\u2028\u2029\r\x00\x1b\ufeff\ufffe\U0001f600é a'\",;\t"
"""Everything that Python or a spreadsheet takes for the end of a line or a cell."""
LINES = st.lists(st.text(st.sampled_from(ODD), max_size=6), min_size=1, max_size=6)


def lines(path: Path) -> list[str]:
    return lines_of(read_text(path), str(path))


@settings(max_examples=60)
@example(["\ufeff"], "\n", False, False)
@given(LINES, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans())
def test_what_was_written_is_what_is_read(written: list[str], end: str, closed: bool, marked: bool) -> None:
    if end == "\n":  # a carriage return before a line feed is half of a line's end
        written = [line.rstrip("\r") for line in written]
    shown = [written[0] if marked else written[0].removeprefix("\ufeff"), *written[1:]]
    text = end.join(written) + (end if closed or not shown[-1] else "")
    content = ("\ufeff" if marked else "").encode() + text.encode()
    try:
        found = lines_of(decoded(content, "c.txt"), "c.txt")
    except ValueError as error:
        assert "line " in str(error) and "c.txt" in str(error)
        assert any(line.startswith("\ufeff") for line in written) or "\0" in text or ("\r" in text and "\n" not in text)
        return
    assert found == shown


@given(st.text())
def test_lines_are_the_text(text: str) -> None:
    try:
        found = lines_of(text, "x")
    except ValueError as error:
        assert "line " in str(error)
        return
    assert "\n".join(found) == text.replace("\r\n", "\n").removesuffix("\n")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("a\nb".encode("utf-16"), "UTF-16 text"),
        ("a\nb".encode("utf-32"), "UTF-32 text"),
        (b"\xfe\xff" + "a".encode("utf-16-be"), "UTF-16 text"),
        ("some words\nb".encode("utf-16-le"), "UTF-16LE text without a byte order mark"),
        ("some words\nb".encode("utf-16-be"), "UTF-16BE text without a byte order mark"),
        ("a\ncafé".encode("latin-1"), r"not UTF-8 text: line 2 holds the byte 0xe9.*iconv -f WINDOWS-1252"),
        ("a\r\nКот".encode("cp1251"), "not UTF-8 text: line 2"),
        ("写真".encode("shift-jis"), "not UTF-8 text: line 1"),
        (b"a\n\xed\xa0\xbc", "not UTF-8 text: line 2"),
        (gzip.compress(b"a\nb", mtime=0), "not text: its first bytes are those of gzip. Unpack it first"),
        (b"PAR1\x15\x04\x00", "those of Parquet"),
    ],
)
def test_other_encodings_are_named(content: bytes, match: str) -> None:
    with pytest.raises(ValueError, match=f"^c.txt.*{match}"):
        decoded(content, "c.txt")


@pytest.mark.parametrize("text", ["PAR1 is a word", "ORC and elf", "BZh", "%PDF é", "ARROW1 \u2028"])
def test_words_that_files_of_other_kinds_begin_with(text: str) -> None:
    assert decoded(text.encode(), "c.txt") == text


def test_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "c.txt"
    for content, expected in [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\n\n", ["a", ""]),
        (b"\xef\xbb\xbfa\r\nb\r\n", ["a", "b"]),
        (b"a\rb\nc", ["a\rb", "c"]),
    ]:
        path.write_bytes(content)
        assert lines(path) == expected
    with pytest.raises(ValueError, match="carriage returns, and the file has no line feed"):
        lines_of("a\rb\r", "c.txt")
    with pytest.raises(ValueError, match=r"c\.txt, line 2, begins with a byte order mark"):
        lines_of("a\n\ufeffb", "c.txt")


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder, not a text file"):
        read_text(tmp_path)
    with pytest.raises(ValueError, match="There is no"):
        read_text(tmp_path / "none.txt")
    np.save(tmp_path / "c.npy", np.array(["a"]))
    with pytest.raises(ValueError, match="not text: its first bytes are those of npy"):
        read_text(tmp_path / "c.npy")


def test_unusable() -> None:
    assert unusable("a \U0001f600 \x00") is None
    assert "U+D83C" in str(unusable("cut \ud83c"))
