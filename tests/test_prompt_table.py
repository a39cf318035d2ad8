"""Lists of prompts: plain text, and tables as DrawBench and PartiPrompts have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from eclipse_pl.prompts.load import load_prompts
from eclipse_pl.prompts.prompt import PromptSet

DRAWBENCH = (
    'Prompts,Category\nA red car.,Colors\n"A cat, and\na dog.",Counting\nOh well.,Gary Marcus et al.\n"",\nA boat.,Colors\n'
)
PARTI = "Prompt\tCategory\tChallenge\tNote\na tiger\tAnimals\tBasic\tx\nthe letter Z\tAbstract\tImagination\t\n"
JSONL = '{"caption": "a cup", "tag": "cups", "score": null}\n\n{"caption": "two cups", "tag": null}\n'


def load(tmp_path: Path, name: str, content: str, categories: list[str] | None = None) -> PromptSet:
    (tmp_path / name).write_text(content)
    return load_prompts(tmp_path / name, "file", categories)


def test_plain_text(tmp_path: Path) -> None:
    prompts = load(tmp_path, "my_list.txt", "a red car\n\nquietly\na boat on a lake\n")
    assert prompts.name == "my_list" and prompts.categories == ["my_list"]
    assert [(prompt.id, prompt.phrases) for prompt in prompts] == [
        ("my_list/0000", ("a red car",)),
        ("my_list/0002", ()),
        ("my_list/0003", ("a boat", "a lake")),
    ]
    assert prompts.failed == (("my_list/0002", "grammar-1 finds no noun phrase in 'quietly'"),)


def test_drawbench(tmp_path: Path) -> None:
    prompts = load(tmp_path, "drawbench.csv", DRAWBENCH)
    assert [(prompt.id, prompt.text) for prompt in prompts] == [
        ("Colors/0000", "A red car."),
        ("Counting/0001", "A cat, and a dog."),
        ("Gary Marcus et al./0002", "Oh well."),
        ("Colors/0004", "A boat."),
    ]
    colours = load(tmp_path, "drawbench.csv", DRAWBENCH, ["Colors"])
    assert [prompt.id for prompt in colours] == ["Colors/0000", "Colors/0004"]


def test_a_row_without_a_prompt_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Row 4 of .*drawbench.csv has no prompt"):
        load(tmp_path, "drawbench.csv", DRAWBENCH.replace('"",\n', '"",Text\n'))


def test_partiprompts(tmp_path: Path) -> None:
    prompts = load(tmp_path, "parti.tsv", PARTI)
    assert [(prompt.id, prompt.subset) for prompt in prompts] == [("Animals/0000", "Basic"), ("Abstract/0001", "Imagination")]


def test_json_lines(tmp_path: Path) -> None:
    prompts = load(tmp_path, "mine.jsonl", JSONL)
    assert [(prompt.id, prompt.text) for prompt in prompts] == [("cups/0000", "a cup"), ("mine/0002", "two cups")]


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.md", "a cup", "is no file of prompts by its name; files of prompts end in .txt, .csv, .tsv, .jsonl"),
        ("a.txt", "\n", "holds no prompt"),
        ("a.csv", "Text2,Category\na cup,x\n", "has the columns text2, category; one of prompt, prompts, text, caption"),
        ("a.csv", "Prompt\n", "is empty; one of prompt"),
        ("a.jsonl", '{"prompt": "a cup"}\nno\n', "line 2, is no JSON object"),
        ("a.jsonl", "[1]\n", "line 1, is no JSON object"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        load(tmp_path, name, content)


def test_a_category_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no category 'Color'; its categories are Animals, Abstract"):
        load(tmp_path, "parti.tsv", PARTI, ["Color"])


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"There is no .*none.txt"):
        load_prompts(tmp_path / "none.txt", "file")
