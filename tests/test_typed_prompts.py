"""Prompts on the command line: the text that the user types is the prompt, however YAML would read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eclipse_pl.__main__ import main
from eclipse_pl.prompts.typed import prompts_of, with_typed_prompts
from tests.helpers.runs import write_experiment

YAML_AT_HEART = [
    *("a red circle", "12", "-1", "1e-5", "null", "~", "yes", "true", "2024-01-01", "12:30:00"),
    *("a: b", "a:", "- a", "# a", "a # b", "{red} circle", "{a: 1}", "{}", "[red]", "[12]", "[1, null]"),
    *("[deep focus] a fox", "(red:1.3) circle", "*red* circle", "&red", "!red", "!!int 3", "? red", "| red"),
    *("> red", "@red", "`red`", "%red", "50% red", '"red"', "'red'", 'a "red" star', "a star's", "a,b", "a=b"),
    *("--red circle", "-red circle", "--", "-", "", " ", " red ", "a\nb", "a\tb", "a\rb", "README.md", "/tmp"),
    *("red \\ blue", "\u2028", "a\x85b", "\x07", "\x7f", "\ufeffa", "\ufffe", "\U0001f600", "עיגול", "红色的圆"),
    *("$HOME", '["a" fox', "a]"),
]


def parse(words: list[str]) -> list[str]:
    """Return a command line as the parser of `sample` reads it."""
    from jsonargparse import auto_parser

    def command(prior: str, prompt: list[str], negative_prompt: str | None = None) -> None: ...

    parser = auto_parser(command, as_positional=False)
    found: list[str] = parser.parse_args(["--prior=x", *with_typed_prompts(words, "--prompt")]).prompt
    return found


def typed(prompts: list[str], form: int) -> list[str]:
    """Four ways to write the same prompts."""
    if form == 3:
        return ["--prompt", json.dumps(prompts)]
    options = {0: ["--prompt", "--prompt"], 1: ["--prompt", "--prompt+"], 2: ["--prompt+", "--prompt+"]}[form]
    return [word for row, prompt in enumerate(prompts) for word in (options[row > 0], prompt)]


@pytest.mark.parametrize("prompt", YAML_AT_HEART)
def test_any_text_is_one_prompt(prompt: str) -> None:
    for words in (["--prompt", prompt], ["--prompt+", prompt], [f"--prompt={prompt}"], ["--prompt", json.dumps([prompt])]):
        assert parse(words) == [prompt]
        assert parse([*words, "--negative_prompt", "x"]) == [prompt]


@settings(max_examples=60)
@given(
    st.lists(st.text() | st.sampled_from(YAML_AT_HEART), min_size=1, max_size=3),
    st.integers(0, 3),
)
def test_what_was_typed_is_what_is_read(prompts: list[str], form: int) -> None:
    try:
        found = parse(typed(prompts, form))
    except ValueError as error:
        assert "--prompt" in str(error)
        assert "\0" in "".join(prompts) or any(one.strip().startswith("[") or one.startswith("-") for one in prompts)
        return
    assert found == prompts


def test_lists_as_python_writes_them() -> None:
    """W&B and our own sweeps give `str` of a list."""
    assert parse([f"--prompt={['a', 'it is a star']}"]) == ["a", "it is a star"]
    assert parse(["--prompt", str(["a star's", 'a "red" \\ \U0001f600\n'])]) == ["a star's", 'a "red" \\ \U0001f600\n']


def test_prompts_of_a_training(tmp_path: Path) -> None:
    from eclipse_pl.sweeps.readers import ArgumentReader

    reader, config = ArgumentReader(), str(write_experiment(tmp_path))
    for words, prompts in (
        (["--samples.prompts", "a: red circle"], ["a: red circle"]),
        (["--samples.prompts", "12", "--samples.prompts", "null"], ["12", "null"]),
        ([f"--samples.prompts={['a', 'b']}"], ["a", "b"]),
    ):
        assert reader.read(["fit", "--config", config, *words]).samples.prompts == prompts


def test_surrogates() -> None:
    assert parse(["--prompt", r'["a \ud83c\udf89 party"]']) == ["a \U0001f389 party"]
    for text in ("cut \udcff", r'["cut \ud83c"]'):
        with pytest.raises(ValueError, match=r"^--prompt 'cut \\ud.*holds half of a character"):
            parse(["--prompt", text])
    with pytest.raises(ValueError, match="holds the character NUL"):
        parse(["--prompt", r'["a\u0000b"]'])


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--prompt"], "--prompt has no prompt. Write a prompt that looks like an option as --prompt=TEXT"),
        (["--prompt", "--prior", "x"], "--prompt has no prompt before --prior"),
        (["--prompt", "a", "red", "star"], "--prompt a is followed by 'red'. Put a prompt of several words in quotes"),
        (["--prompt=a", "red"], "--prompt a is followed by 'red'"),
        (["--prompt", "[]"], r"--prompt \[\] is a list, but not of prompts"),
        (["--prompt", '["a", 2]'], "is a list, but not of prompts: it must have one or more strings"),
        (["--prompt", '[["a"]]'], "is a list, but not of prompts"),
        (
            ["--prompt", "['a', b 'c']"],
            r"looks like a list, but is not JSON \(.*Write --prompt '\[\"a red star\", \"a cat\"\]'",
        ),
        (["--prompt", '["a", "b", "]'], "looks like a list, but is not JSON"),
    ],
)
def test_mistakes(words: list[str], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        with_typed_prompts(words, "--prompt")


def test_the_rest_of_the_line_is_left_alone() -> None:
    words = ["--prior", "x", "--prompt", "a", "--out=--prompt", "--prompt+", "b", "--count", "2"]
    assert with_typed_prompts(words, "--prompt") == ["--prior", "x", '--prompt=["a", "b"]', "--out=--prompt", "--count", "2"]
    assert with_typed_prompts(["--prior", "x"], "--prompt") == ["--prior", "x"]
    assert with_typed_prompts(["--prompt+=a"], "--prompt") == ['--prompt+=["a"]']  # added to those of a --config


def test_one_prompt_is_a_string_and_several_are_a_list() -> None:
    assert prompts_of("a red circle", "--prompt") == ["a red circle"]
    assert prompts_of(("a", "b"), "--prompt") == ["a", "b"]


@pytest.mark.parametrize("prompts", [[], ["a", "cut \ud83c"]])
def test_prompts_of_a_notebook(prompts: Any) -> None:
    with pytest.raises(ValueError, match="--prompt"):
        prompts_of(prompts, "--prompt")


@pytest.mark.parametrize("command", [["sample", "--prior"], ["nearest", "--prior"]])
def test_commands_refuse_before_they_load(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "nowhere", "--prompt", "cut \udcff"]) == 2
    assert capsys.readouterr().err == "error: --prompt 'cut \\udcff' holds half of a character (the lone surrogate U+DCFF).\n"
    assert main([*command, "nowhere", "--prompt", "a", "red", "circle"]) == 2
    assert "Put a prompt of several words in quotes" in capsys.readouterr().err
