"""Prompt sets: balanced as asked, distinct, never captions of training, named by a hash."""

from __future__ import annotations

from typing import Any

import pytest

from eclipse_pl.prompts.prompt import Relation, Required
from eclipse_pl.world.captions import parse
from eclipse_pl.world.prompts import prompt_scenes, prompt_set, world_prompt
from eclipse_pl.world.scenes import CATEGORIES
from eclipse_pl.world.splits import training_scenes
from tests.helpers.agreement import agrees


@pytest.mark.long
@pytest.mark.parametrize("category", CATEGORIES)
def test_prompts_are_what_was_asked_for(category: str) -> None:
    trained = {pair.caption for pair in training_scenes(600)}
    for composition in ("seen", "unseen"):
        prompts, scenes = prompt_set(40, [category], [composition]), prompt_scenes(category, composition, 40)
        assert len({prompt.text for prompt in prompts}) == len({prompt.id for prompt in prompts}) == 40
        assert {(prompt.category, prompt.subset) for prompt in prompts} == {(category, composition)}
        assert all(agrees(parse(prompt.text), scene) for prompt, scene in zip(prompts, scenes, strict=True))
        assert all(scene.unseen == (composition == "unseen") for scene in scenes)
        assert not {prompt.text for prompt in prompts} & trained


def test_a_set_holds_every_category_and_composition() -> None:
    prompts = prompt_set(2)
    assert len(prompts) == 24 and prompts.categories == list(CATEGORIES)
    assert [p.text for p in prompt_set(3, ["shape"], ["unseen"])][:2] == [
        p.text for p in prompts if (p.category, p.subset) == ("shape", "unseen")
    ]


def test_a_prompt_says_what_its_text_says() -> None:
    prompt = world_prompt("x", "complex", "a large red star above an orange heart and two dotted blue circles")
    assert prompt.phrases == ("large red star", "orange heart", "dotted blue circles")
    assert prompt.relation == Relation("red star", "above", "orange heart")
    assert prompt.required == (Required("star", 1, "red"), Required("heart", 1, "orange"), Required("circle", 2, "blue"))
    assert world_prompt("x", "colour", "a red star").relation is None
    with pytest.raises(ValueError, match="not a caption of the world"):
        world_prompt("x", "colour", "a red elephant")


def test_the_hash_names_the_set() -> None:
    first = prompt_set(10, ["colour"], seed=1).sha256
    assert first == prompt_set(10, ["colour"], seed=1).sha256 and len(first) == 64
    assert first != prompt_set(10, ["colour"], seed=2).sha256
    assert first != prompt_set(9, ["colour"], seed=1).sha256


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"categories": ["color"]}, "'color' is not one of the world's colour, shape"),
        ({"compositions": ["both"]}, "'both' is not one of the world's seen, unseen"),
    ],
)
def test_bad_requests(wrong: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        prompt_set(1, **wrong)
