"""GenEval's metadata as prompts: every tag by hand, and the whole file if there is one."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from eclipse_pl.prompts.geneval import TAGS
from eclipse_pl.prompts.load import load_prompts
from eclipse_pl.prompts.prompt import Required
from tests.helpers.real_data import RealData
from tests.helpers.rule_parser import RuleParser

ROWS: list[dict[str, Any]] = [
    {"tag": "single_object", "include": [{"class": "kite", "count": 1}], "prompt": "a photo of a kite"},
    {
        "tag": "two_object",
        "include": [{"class": "kite", "count": 1}, {"class": "sink", "count": 1}],
        "prompt": "a photo of a kite and a sink",
    },
    {
        "tag": "counting",
        "include": [{"class": "kite", "count": 3}],
        "exclude": [{"class": "kite", "count": 4}],
        "prompt": "a photo of three kites",
    },
    {"tag": "colors", "include": [{"class": "kite", "count": 1, "color": "pink"}], "prompt": "a photo of a pink kite"},
    {
        "tag": "position",
        "include": [{"class": "sink", "count": 1}, {"class": "kite", "count": 1, "position": ["left of", 0]}],
        "prompt": "a photo of a kite left of a sink",
    },
    {
        "tag": "color_attr",
        "include": [{"class": "kite", "count": 1, "color": "red"}, {"class": "sink", "count": 1, "color": "blue"}],
        "prompt": "a photo of a red kite and a blue sink",
    },
]


def write_geneval(folder: Path, rows: list[dict[str, Any]]) -> Path:
    (folder / "evaluation_metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_every_tag(tmp_path: Path) -> None:
    prompts = load_prompts(write_geneval(tmp_path, ROWS), "geneval")
    assert prompts.name == "GenEval" and prompts.categories == list(TAGS)
    assert [prompt.id for prompt in prompts] == [f"{tag}/{line:04d}" for line, tag in enumerate(TAGS)]
    single, two, counting, colours, position, attributes = prompts
    assert single.required == (Required("kite", 1),) and single.excluded == () and single.phrases == ("a photo", "a kite")
    assert two.required == (Required("kite", 1), Required("sink", 1))
    assert counting.required == (Required("kite", 3),) and counting.excluded == (Required("kite", 4),)
    assert colours.required == (Required("kite", 1, "pink"),)
    assert position.required == (Required("sink", 1), Required("kite", 1, None, ("left of", 0)))
    assert attributes.required == (Required("kite", 1, "red"), Required("sink", 1, "blue"))
    assert prompts.parser == "GenEval grammar" and not prompts.failed
    assert [prompt.phrases[1:] for prompt in prompts] == [
        ("a kite",),
        ("a kite", "a sink"),
        ("three kites",),
        ("a pink kite",),
        ("a kite", "a sink"),
        ("a red kite", "a blue sink"),
    ]


def test_a_sentence_that_is_not_genevals_has_no_phrases(tmp_path: Path) -> None:
    folder = write_geneval(tmp_path, [{**ROWS[0], "prompt": "two sandwiches left of Anderson"}])
    assert load_prompts(folder, "geneval").failed == (
        ("single_object/0000", "GenEval grammar finds no noun phrase in 'two sandwiches left of Anderson'"),
    )
    prompts = load_prompts(folder, "geneval", parser=RuleParser())
    assert prompts.parser == "rules-1" and prompts.prompts[0].phrases and not prompts.failed


def test_some_tags_keep_the_numbers_of_their_lines(tmp_path: Path) -> None:
    prompts = load_prompts(write_geneval(tmp_path, ROWS), "geneval", ["counting"])
    assert [prompt.id for prompt in prompts] == ["counting/0002"]
    file = load_prompts(tmp_path / "evaluation_metadata.jsonl", "geneval", ["counting"])
    assert file == prompts
    with pytest.raises(ValueError, match="no category 'count'; its categories are single_object"):
        load_prompts(tmp_path, "geneval", ["count"])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"tag": "shape"}, "its tag is 'shape'; the tags are single_object"),
        ({"prompt": " "}, "its prompt is empty"),
        ({"prompt": "cut \ud83c"}, "its prompt holds half of a character"),
        ({"include": [{"class": "kite"}]}, "'count' is missing"),
        ({"include": [{"class": "kite", "count": 0}]}, "its count is 0"),
        ({"include": [{"class": "kite", "count": 1, "color": "teal"}]}, "its color is 'teal'; the colours are red"),
        (
            {"include": [{"class": "kite", "count": 1, "position": ["near", 0]}]},
            "its position is 'near'; the positions are left of",
        ),
        ({"include": [{"class": "kite", "count": 1, "position": ["above", 0]}]}, "entry 0, which is not before it"),
        ({"include": 3}, "is not a line of GenEval's metadata"),
    ],
)
def test_bad_lines(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=r"evaluation_metadata.jsonl, line 2, is not a line of GenEval") as error:
        load_prompts(write_geneval(tmp_path, [ROWS[0], {**ROWS[1], **change}]), "geneval")
    assert why in str(error.value)


def test_the_whole_file(real_data: RealData) -> None:
    prompts = load_prompts(real_data("geneval/evaluation_metadata.jsonl"), "geneval")
    assert Counter(prompt.category for prompt in prompts) == TAGS and len(prompts) == 553
    assert all(prompt.phrases for prompt in prompts)
    assert all(bool(prompt.excluded) == (prompt.category == "counting") for prompt in prompts)
