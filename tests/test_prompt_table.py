"""Lists of prompts: plain text, and tables such as DrawBench and PartiPrompts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eclipse_pl.prompts.load import load_prompts
from eclipse_pl.prompts.prompt import PromptSet
from tests.helpers.rule_parser import RuleParser
from tests.test_text_file import ODD

DRAWBENCH = (
    'Prompts,Category\nA red car.,Colors\n"A cat, and\na dog.",Counting\nOh well.,Gary Marcus et al.\n"",\nA boat.,Colors\n'
)
PARTI = "Prompt\tCategory\tChallenge\tNote\na tiger\tAnimals\tBasic\tx\nthe letter Z\tAbstract\tImagination\t\n"
JSONL = '{"caption": "a cup", "tag": "cups", "score": null}\n\n{"caption": "two cups", "tag": null}\n'


def load(tmp_path: Path, name: str, content: str, categories: list[str] | None = None) -> PromptSet:
    (tmp_path / name).write_text(content)
    return load_prompts(tmp_path / name, "file", categories, parser=RuleParser())


def test_plain_text(tmp_path: Path) -> None:
    prompts = load(tmp_path, "my_list.txt", "a red car\n\nquietly\na boat on a lake\n")
    assert prompts.name == "my_list" and prompts.categories == ["my_list"]
    assert [(prompt.id, prompt.phrases) for prompt in prompts] == [
        ("my_list/0000", ("a red car",)),
        ("my_list/0002", ()),
        ("my_list/0003", ("a boat", "a lake")),
    ]
    assert prompts.failed == (("my_list/0002", "rules-1 finds no noun phrase in 'quietly'"),)


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


def test_the_error_names_a_row_without_a_prompt(tmp_path: Path) -> None:
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
        ("a.md", "a cup", "is not a file of prompts by its name; files of prompts end in .txt, .csv, .tsv, .jsonl"),
        ("a.txt", "\n", "has no prompt"),
        ("a.csv", "Text2,Category\na cup,x\n", "has the columns Text2, Category; one of prompt, prompts, text, caption"),
        ("a.csv", "Prompt\n", "is empty; one of prompt"),
        ("a.jsonl", '{"prompt": "a cup"}\nno\n', "line 2, is no JSON object"),
        ("a.jsonl", "[1]\n", "line 1, is not a JSON object"),
        (
            "a.jsonl",
            '{"prompt": "a cup"}\n{"prompt": 12}\n',
            r"line 2, has a number \(12\) in its column 'prompt'; it must be",
        ),
        ("a.jsonl", '{"prompt": ["a", "b"]}\n', r"line 1, has a list \(\['a', 'b'\]\)"),
        ("a.jsonl", '{"prompt": true}\n', r"line 1, has a boolean \(True\)"),
        ("a.jsonl", '{"prompt": "a", "category": {"x": 1}}\n', r"line 1, has a record .* in its column 'category'"),
        ("a.jsonl", '{"prompt": null}\n', "Row 1 of .* has no prompt .*: line 1"),
        ("a.jsonl", '{"prompt": "a"}\n{"prompt": "cut \\ud83c"}\n', r"line 2, holds half of a character .*U\+D83C"),
        ("a.jsonl", '{"prompt": "a", "Prompt": "b"}\n', "line 1, has two columns 'prompt'"),
        ("a.jsonl", '{"prompt": "a\\u0000b"}\n', "line 1, holds the character NUL"),
        ("a.txt", "a\n\nb\0c\n", "line 3, holds the character NUL"),
        ("a.csv", "Prompt,Category\na red circle, a star,x\n", "line 2, has 3 cells, the header has 2"),
        ("a.csv", "Prompt,Category\na,x\nb,../../evil\n", "line 3, has the category '../../evil'"),
        ("a.csv", "Prompt,Category\na,x/y\n", "line 2, has the category 'x/y', which must name a folder"),
        ("a.csv", "Prompt,Category\na,x\\y\n", "line 2, has the category"),
        ("a.csv", "Prompt,Category\na,..\n", r"line 2, has the category '\.\.'"),
        ("a.csv", 'Prompt,Category\na,"x\ny"\n', r"line 2, has the category 'x\\ny'"),
        ("a.csv", f"Prompt,Category\na,{'é' * 51}\n", "line 2, has the category"),
        ("..txt", "a cup\n", r"line 1, has the category '\.'"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        load(tmp_path, name, content)


def test_an_unknown_category(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no category 'Color'; its categories are Animals, Abstract"):
        load(tmp_path, "parti.tsv", PARTI, ["Color"])


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"There is no .*none.txt"):
        load_prompts(tmp_path / "none.txt", "file")


def test_lines_are_cut_at_line_feeds_alone(tmp_path: Path) -> None:
    """The number of a prompt is that of its line in every other program; white space within it becomes one blank."""
    texts = "\ufeffa red\u2028circle\r\n\x0ca blue\x85star\r\n\r\na\x0bgreen\x1dsquare\r\n"
    prompts = load(tmp_path, "UPPER.TXT", texts)
    assert [(prompt.id, prompt.text) for prompt in prompts] == [
        ("UPPER/0000", "a red circle"),
        ("UPPER/0001", "a blue star"),
        ("UPPER/0003", "a green square"),
    ]
    table = load(tmp_path, "a.csv", "\ufeffPrompt;Category\na red\x85circle;x\na blue, star;7\n;\n")
    assert [(prompt.id, prompt.text) for prompt in table] == [("x/0000", "a red circle"), ("7/0001", "a blue, star")]
    rows = load(tmp_path, "a.jsonl", '{"prompt": "a red\u2028circle", "category": 3, "other": [1]}\n')
    assert [(prompt.id, prompt.text) for prompt in rows] == [("3/0000", "a red circle")]


ODD_TEXTS = st.lists(st.text(st.sampled_from(f"{ODD}/\\._"), max_size=5), min_size=1, max_size=4)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.text(st.sampled_from(f"{ODD}/\\._"), max_size=5), min_size=1, max_size=4), st.sampled_from(["txt", "jsonl"])
)
def test_odd_prompts_are_read_or_refused_by_line(tmp_path: Path, texts: list[str], suffix: str) -> None:
    texts = [text.strip("\r\ufeff") or "x" for text in texts]
    lines = texts if suffix == "txt" else [json.dumps({"prompt": text}, ensure_ascii=False) for text in texts]
    (tmp_path / f"a.{suffix}").write_bytes("\n".join(["first", *lines] if suffix == "txt" else lines).encode())
    try:
        prompts = load_prompts(tmp_path / f"a.{suffix}", "file", parser=RuleParser())
    except ValueError as error:
        assert "line " in str(error) and f"a.{suffix}" in str(error)
        assert any("\0" in text or text.lstrip().startswith("\ufeff") or not text.strip() for text in texts)
        return
    read = [prompt.text for prompt in prompts][suffix == "txt" :]
    assert read == [" ".join(text.split()) for text in texts if text.strip()]
