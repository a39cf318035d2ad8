"""Parses: those that come with the package, and those that are cached, by file and parser, beside prompts of data_prep."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from data_prep.__main__ import main
from data_prep.upstream import UPSTREAMS
from eclipse_pl.prompts import parsing
from eclipse_pl.prompts.compbench import CATEGORIES, file_name
from eclipse_pl.prompts.load import load_prompts
from eclipse_pl.prompts.parser import NoParser, Parse, Parser, Word
from eclipse_pl.prompts.parsing import cache_path, parse_all
from eclipse_pl.prompts.record import PromptsRecord
from eclipse_pl.prompts.shipped_parses import shipped_parses
from eclipse_pl.prompts.spacy_parser import SpacyParser
from tests.helpers.real_data import RealData
from tests.helpers.rule_parser import RuleParser

SHIPPED = [
    "a green bench and a blue bowl",
    "a giraffe next to a lamp",
    "A woman is speaking on the phone and making plans with a friend.",
]


class CountingParser(Parser):
    """Every text is one noun; remembers the texts that it was asked to parse."""

    def __init__(self, version: str = "counting-1") -> None:
        self._version = version
        self.asked: list[str] = []

    @property
    def version(self) -> str:
        return self._version

    def parse(self, text: str) -> Parse:
        self.asked.append(text)
        return Parse((Word(text, "NOUN"),), (text,))


class NoSpacy(SpacyParser):
    """spaCy as it is asked for where it must not be."""

    def __init__(self) -> None:
        raise AssertionError("spaCy is not needed")


class InstalledSpacy(RuleParser):
    """Stands for spaCy with its model."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    PromptsRecord("file", "here").save(tmp_path)
    path = tmp_path / "prompts.txt"
    path.write_text("one\ntwo\n")
    return path


def asked(path: Path, texts: list[str], version: str = "counting-1") -> list[str]:
    """The texts that are not cached."""
    parser = CountingParser(version)
    assert parse_all(path, texts, parser).parses == [Parse((Word(text, "NOUN"),), (text,)) for text in texts]
    return parser.asked


def test_parsed_once(file: Path) -> None:
    assert asked(file, ["one", "two"]) == ["one", "two"]
    assert asked(file, ["two", "one", "one"]) == []
    assert asked(file, ["one", "three"]) == ["three"]
    assert asked(file, ["three", "two"]) == []


def test_another_parser_or_file_is_parsed_again(file: Path) -> None:
    asked(file, ["one"])
    assert asked(file, ["one"], "counting-2") == ["one"]
    assert asked(file, ["one"], "counting-2") == []
    file.write_text("one\nzwei\n")
    assert asked(file, ["one"], "counting-2") == ["one"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"parser": "counting-1"}', "null"])
def test_a_damaged_cache_is_parsed_again(file: Path, content: str) -> None:
    asked(file, ["one"])
    cache_path(file).write_text(content)
    assert asked(file, ["one"]) == ["one"]
    assert asked(file, ["one"]) == []


def test_parses_of_another_form_are_parsed_again(file: Path) -> None:
    asked(file, ["one"])
    content = json.loads(cache_path(file).read_text())
    content["parses"]["one"] = [["one"], 3]
    cache_path(file).write_text(json.dumps(content))
    assert asked(file, ["one"]) == ["one"]


def test_the_cache_keeps_every_character(file: Path) -> None:
    texts = ["a réd “kettle” on the left of a café", "The bride's beauty, and 11:44"]
    first = parse_all(file, texts, RuleParser())
    assert cache_path(file).is_file()
    assert first == parse_all(file, texts, RuleParser()) == ([RuleParser().parse(text) for text in texts], ("rules-1",))


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("one\n")
    assert asked(tmp_path / "prompts.txt", ["one"]) == ["one"]
    assert [path.name for path in tmp_path.iterdir()] == ["prompts.txt"]


def test_a_cache_that_cannot_be_written_is_no_error(file: Path) -> None:
    cache_path(file).mkdir()
    assert asked(file, ["one"]) == ["one"]
    assert not list(file.parent.glob("*.partial"))


def test_shipped_parses_are_those_of_upstreams_files() -> None:
    shipped, known = shipped_parses(), UPSTREAMS["compbench"].sha256
    assert shipped.files == {name: known[name] for name in map(file_name, CATEGORIES)}
    assert shipped["a green bench and a blue bowl"] == Parse(
        (
            *(Word("a", "DET"), Word("green", "ADJ"), Word("bench", "NOUN"), Word("and", "CCONJ")),
            *(Word("a", "DET"), Word("blue", "ADJ"), Word("bowl", "NOUN")),
        ),
        ("a green bench", "a blue bowl"),
    )
    assert "a green bench" not in shipped


def test_shipped_parses_are_spacys(real_data: RealData) -> None:
    files = json.loads(real_data("compbench/readings_spacy.json").read_text(encoding="utf-8"))
    assert {name: of_file["sha256"] for name, of_file in files.items()} == shipped_parses().files
    assert {of_file["parser"] for of_file in files.values()} == {shipped_parses().parser}
    parses = {text: parse for of_file in files.values() for text, parse in of_file["readings"].items()}
    assert len(parses) == 2400
    for text, (words, phrases) in parses.items():
        assert shipped_parses()[text] == (tuple(tuple(word) for word in words), tuple(phrases))


def test_shipped_prompts_do_not_depend_on_spacy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With spaCy, without it, and in a folder of data_prep: the same prompts, the same version, no cache."""
    PromptsRecord("file", "here").save(tmp_path)
    (tmp_path / "prompts.txt").write_text("\n".join(SHIPPED), encoding="utf-8")
    found = []
    for installed in (InstalledSpacy, NoSpacy, None):
        with monkeypatch.context() as patched:
            if installed is None:
                patched.setitem(sys.modules, "spacy", None)
            else:
                patched.setattr(parsing, "SpacyParser", installed)
            found.append(load_prompts(tmp_path / "prompts.txt", "file"))
    assert found[0] == found[1] == found[2] and len(found[0]) == 3 and all(prompt.phrases for prompt in found[0])
    assert found[0].parser == shipped_parses().parser and not cache_path(tmp_path / "prompts.txt").exists()


def test_other_prompts_are_parsed_by_spacy(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "SpacyParser", InstalledSpacy)
    assert parse_all(file, ["a red kettle"], None).parser == "rules-1"
    mixed = parse_all(file, [SHIPPED[0], "a red kettle", SHIPPED[1]], None)
    assert mixed.parser == f"rules-1 and {shipped_parses().parser}"
    assert [parse.phrases for parse in mixed.parses[:2]] == [("a green bench", "a blue bowl"), ("a red kettle",)]
    assert "green" not in cache_path(file).read_text() and "kettle" in cache_path(file).read_text()


@pytest.mark.parametrize("line", ["a red kettle", f"{SHIPPED[0]}\na red kettle"])
def test_without_spacy_the_error_names_the_two_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    (tmp_path / "mine.txt").write_text(line)
    assert main(["prompts", "--suite", str(tmp_path / "mine.txt"), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "'a red kettle'" in error and "spaCy is not installed" in error
    assert "run `pip install 'eclipse_pl[spacy]'` and `python -m spacy download en_core_web_sm`" in error


@pytest.mark.long
def test_few_of_many_warnings_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("".join(f"a red kettle {number}\n" for number in range(1234)))
    arguments = ["--out", str(tmp_path / "out"), "--parser", "eclipse_pl.prompts.parser.NoParser"]
    assert main(["prompts", "--suite", str(tmp_path / "mine.txt"), *arguments]) == 0
    *few, last = capsys.readouterr().err.splitlines()
    assert len(few) == 10 and few[0] == "warning: NoParser finds no noun phrase in 'a red kettle 0'"
    assert last == "warning: the same of 1,224 more prompts"


def test_scorers_that_need_no_phrases_need_no_spacy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    (tmp_path / "mine.txt").write_text("a red kettle")
    prompts = load_prompts(tmp_path / "mine.txt", "file", parser=NoParser())
    assert [prompt.text for prompt in prompts] == ["a red kettle"] and prompts.parser == "NoParser"
