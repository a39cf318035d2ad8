"""Readings kept beside the prompts: only in folders of ours, never those of another file or another parser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eclipse_pl.prompts.grammar import GrammarParser
from eclipse_pl.prompts.parser import Parser, Reading, Word
from eclipse_pl.prompts.prompt_lines import cache_path, read_all, read_lines
from eclipse_pl.prompts.record import PromptsRecord


class CountingParser(Parser):
    """Every text is one noun; remembers what it was asked to read."""

    def __init__(self, version: str = "counting-1") -> None:
        self._version = version
        self.asked: list[str] = []

    @property
    def version(self) -> str:
        return self._version

    def read(self, text: str) -> Reading:
        self.asked.append(text)
        return Reading((Word(text, "NOUN"),), (text,))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    PromptsRecord("file", "here").save(tmp_path)
    path = tmp_path / "prompts.txt"
    path.write_text("one\ntwo\n")
    return path


def asked(path: Path, texts: list[str], version: str = "counting-1") -> list[str]:
    """What had to be read anew."""
    parser = CountingParser(version)
    assert read_all(path, texts, parser) == [Reading((Word(text, "NOUN"),), (text,)) for text in texts]
    return parser.asked


def test_read_once(file: Path) -> None:
    assert asked(file, ["one", "two"]) == ["one", "two"]
    assert asked(file, ["two", "one", "one"]) == []
    assert asked(file, ["one", "three"]) == ["three"]
    assert asked(file, ["three", "two"]) == []


def test_another_parser_or_file_is_read_anew(file: Path) -> None:
    asked(file, ["one"])
    assert asked(file, ["one"], "counting-2") == ["one"]
    assert asked(file, ["one"], "counting-2") == []
    file.write_text("one\nzwei\n")
    assert asked(file, ["one"], "counting-2") == ["one"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"parser": "counting-1"}', "null"])
def test_a_damaged_cache_is_read_anew(file: Path, content: str) -> None:
    asked(file, ["one"])
    cache_path(file).write_text(content)
    assert asked(file, ["one"]) == ["one"]
    assert asked(file, ["one"]) == []


def test_readings_of_another_form_are_read_anew(file: Path) -> None:
    asked(file, ["one"])
    content = json.loads(cache_path(file).read_text())
    content["readings"]["one"] = [["one"], 3]
    cache_path(file).write_text(json.dumps(content))
    assert asked(file, ["one"]) == ["one"]


def test_the_grammar_reads_alike_from_the_cache(file: Path) -> None:
    texts = ["a réd “kettle” on the left of a café", "The bride's beauty, and 11:44"]
    first = read_all(file, texts, GrammarParser())
    assert first == read_all(file, texts, GrammarParser()) == [GrammarParser().read(text) for text in texts]


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("one\n")
    assert asked(tmp_path / "prompts.txt", ["one"]) == ["one"]
    assert [path.name for path in tmp_path.iterdir()] == ["prompts.txt"]


def test_a_cache_that_cannot_be_written_is_no_error(file: Path) -> None:
    cache_path(file).mkdir()
    assert asked(file, ["one"]) == ["one"]
    assert not list(file.parent.glob("*.partial"))


def test_lines_of_any_ending(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes("\ufeffone\r\n\r\n two \nthree".encode())
    assert read_lines(path) == [(0, "one"), (2, "two"), (3, "three")]
    path.write_bytes(b"one\ntwo\0three\n")
    with pytest.raises(ValueError, match=r"lines\.txt, line 2, holds the character NUL"):
        read_lines(path)
    path.write_text(" \n\n")
    with pytest.raises(ValueError, match="holds no prompt"):
        read_lines(path)
