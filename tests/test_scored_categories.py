"""The categories that a scorer of a benchmark names: those of the suite, whichever prompts are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eclipse_pl.compbench.compbench import CompBench
from eclipse_pl.compbench.scoring import Scoring
from eclipse_pl.prompts.geneval import TAGS
from eclipse_pl.prompts.parser import NoParser
from eclipse_pl.prompts.source import PromptFiles, PromptSource
from eclipse_pl.world.prompt_source import WorldPrompts
from tests.helpers.compbench_folder import write_compbench
from tests.helpers.question_suites import KITE, KITE_QUESTIONS, write_genai_bench, write_propositions
from tests.helpers.rule_parser import RuleParser
from tests.helpers.scorers_for_images import MeanColour


def bench(prompts: PromptSource, *categories: str) -> CompBench:
    return CompBench(prompts, [Scoring(MeanColour(), list(categories))])


def test_a_misspelt_category_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError) as error:
        bench(WorldPrompts(1), "colour", "shpae").require_ready()
    assert str(error.value) == (
        "mean_colour scores the category 'shpae', which the prompts of world do not have. Near it: shape. Their categories "
        "are colour, shape, texture, spatial, numeracy, complex."
    )


def test_a_scorer_may_name_categories_whose_prompts_are_not_read(tmp_path: Path) -> None:
    """One protocol serves all prompts of a suite and some of them."""
    write_compbench(tmp_path / "compbench", lines=3, parts=(1, 1, 1))
    write_propositions(tmp_path / "dsg-1k-anns.csv", {"vrd_3": (KITE, KITE_QUESTIONS), "whoops_7": (KITE, KITE_QUESTIONS)})
    write_genai_bench(tmp_path, [KITE, "a ship"], {"basic": [0], "advanced": [1]})
    (tmp_path / "mine.csv").write_text("prompt,category\na kite,toys\na ship,boats\n")
    include = [{"class": "dog", "count": 1}]
    (tmp_path / "evaluation_metadata.jsonl").write_text(
        "".join(json.dumps({"tag": tag, "include": include, "prompt": "a photo of a dog"}) + "\n" for tag in TAGS)
    )
    for place, suite, one, other in [
        ("compbench", "compbench", "color", "shape"),
        (".", "geneval", "counting", "colors"),
        (".", "dsg", "relation", "defying"),
        (".", "dsg", "relation", "pose"),  # this file has none of its prompts
        (".", "genai_bench", "basic", "untagged"),
        ("mine.csv", "file", "toys", "boats"),
    ]:
        parser = RuleParser() if suite == "compbench" else NoParser() if suite == "file" else None
        prompts = PromptFiles(str(tmp_path / place), suite, [one], per_category=1, parser=parser)
        found, _ = bench(prompts, one, other).require_ready()
        assert found.categories == [one]
        with pytest.raises(ValueError, match=f"scores the category '{other}_', .* Near it: {other}"):
            bench(prompts, one, f"{other}_").require_ready()
    found, _ = bench(WorldPrompts(1, ["colour"]), "colour", "shape").require_ready()
    assert found.categories == ["colour"]


def test_what_covers_no_prompt_that_is_read_is_idle(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mean_colour would score nothing: the prompts have the categories colour"):
        bench(WorldPrompts(1, ["colour"]), "shape").require_ready()
