"""Prompt sets: balanced as asked, distinct, never captions of training, named by a hash."""

from __future__ import annotations

from typing import Any

import pytest

from eclipse_pl.prompts.prompt import Relation, Required
from eclipse_pl.world.captions import fits, parse
from eclipse_pl.world.prompt_source import WorldPrompts
from eclipse_pl.world.prompts import detail_of, prompt_scenes, prompt_set, scene_of, world_prompt
from eclipse_pl.world.scenes import CATEGORIES
from eclipse_pl.world.splits import names_held_out_pair, training_scenes
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


@pytest.mark.long
@pytest.mark.parametrize("detail", [0.5, 0.25])
def test_vague_prompts_are_of_the_same_scenes_and_name_what_they_are_about(detail: float) -> None:
    full, vague = prompt_set(8), prompt_set(8, detail=detail)
    assert len(full) == len(vague) and full.sha256 != vague.sha256
    for prompt, whole in zip(vague, full, strict=True):
        assert (prompt.category, prompt.subset) == (whole.category, whole.subset)
        assert prompt.id == f"detail_{detail}/{whole.id}" and detail_of(prompt) == detail and detail_of(whole) == 1
        said = parse(prompt.text, vague=True)
        assert scene_of(prompt) == scene_of(whole) and fits(said, scene_of(prompt).objects)
        assert prompt.category != "colour" or any(phrase.colour for phrase in said.phrases)
        assert prompt.category != "texture" or any(phrase.texture for phrase in said.phrases)
        assert prompt.category != "spatial" or prompt.relation is not None
        assert (prompt.subset == "unseen") == names_held_out_pair(prompt.text)
        assert [one.colour for one in prompt.required] == [phrase.colour for phrase in said.phrases]
    assert any(one.colour is None for prompt in vague for one in prompt.required)
    assert [p.text for p in prompt_set(3, detail=detail)] == [p.text for p in vague if int(p.id[-4:]) < 3]
    with pytest.raises(ValueError, match="set prompt_seed to the seed of the prompts"):
        scene_of(vague.prompts[0], seed=1)


def test_prompts_too_vague_for_their_category() -> None:
    assert len(prompt_set(2, ["numeracy"], ["seen"], detail=0.0)) == 2
    for category, composition in (("colour", "seen"), ("numeracy", "unseen")):
        with pytest.raises(ValueError, match=f"detail 0.0 are too vague for prompts of category {category}"):
            prompt_set(1, [category], [composition], detail=0.0)
    with pytest.raises(ValueError, match=r"prompts\.detail is 2.0; it must be between 0"):
        WorldPrompts(detail=2.0)
    assert WorldPrompts(1, ["shape"], ["seen"], detail=0.5).load() == prompt_set(1, ["shape"], ["seen"], detail=0.5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"per_category": 0}, r"prompts\.per_category is 0; it must be 1 or more"),
        ({"per_category": -3}, r"prompts\.per_category is -3; it must be 1 or more"),
        ({"seed": -1}, r"prompts\.seed is -1; it must be 0 or more"),
        ({"categories": []}, r"prompts\.categories is \[\]; name at least one of .*spatial.*, or null for all"),
        ({"compositions": []}, r"prompts\.compositions is \[\]; name at least one of seen, unseen, or null for all"),
        ({"categories": ["colour", "hue"]}, r"prompts\.categories has 'hue'.* colour, "),
        ({"compositions": ["held out"]}, r"prompts\.compositions has 'held out'.* seen, unseen"),
        ({"categories": ["colour", "colour"]}, r"prompts\.categories has 'colour' twice"),
    ],
)
def test_prompts_that_the_world_does_not_have_are_refused_at_once(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        WorldPrompts(**options)


def test_the_hash_names_the_set() -> None:
    assert prompt_set(5).sha256 == "4536e4158d8afe8bbdab5d227b56d8ba7f3d28886ca22d8c6e8025ffd6a91fbe", "as ever"
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
