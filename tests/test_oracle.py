"""The world's scorer: right on rendered scenes of every category, and each rule by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from PIL import Image

from eclipse_pl.prompts.prompt import Prompt
from eclipse_pl.world.captions import parse
from eclipse_pl.world.drawing import render
from eclipse_pl.world.oracle import OracleScorer, compare
from eclipse_pl.world.prompts import prompt_set, scene_of, world_prompt
from eclipse_pl.world.scenes import CATEGORIES, DIAMETER, Scene, SceneObject
from eclipse_pl.world.splits import held_out_scenes

RED_STAR = SceneObject("red", "star", "plain", "large", 16, 16)
BLUE_HEART = SceneObject("blue", "heart", "dotted", "small", 45, 40)


@pytest.mark.long
def test_scenes_satisfy_their_captions_and_their_counterparts_do_not() -> None:
    pairs = list(held_out_scenes("test", 600))
    prompts = [world_prompt(f"{i}", pair.scene.category, pair.caption) for i, pair in enumerate(pairs)]
    scores = OracleScorer().score([render(pair.scene) for pair in pairs], prompts)
    for category in CATEGORIES:
        for size in DIAMETER:
            those = [
                score.value == 1 and score.evidence["correct"]
                for score, pair in zip(scores, pairs, strict=True)
                if pair.scene.category == category and any(thing.size == size for thing in pair.scene.objects)
            ]
            assert len(those) > 10 and sum(those) >= 0.98 * len(those), (category, size)
    swapped = [(render(pair.negative), prompt) for pair, prompt in zip(pairs, prompts, strict=True) if pair.negative]
    wrong = OracleScorer().score(*map(list, zip(*swapped, strict=True)))
    assert sum(score.evidence["correct"] for score in wrong) <= 0.02 * len(wrong)


def test_evidence_is_what_was_read_and_can_be_written() -> None:
    prompt = world_prompt("0", "complex", "a large red star and a dotted blue heart")
    (score,) = OracleScorer().score([render(Scene("complex", (RED_STAR, BLUE_HEART)))], [prompt])
    evidence = json.loads(json.dumps(score.evidence))
    assert evidence["objects"] == [
        {"colour": "red", "shape": "star", "texture": "plain", "size": "large", "x": 16, "y": 16, "explained": 1.0},
        {"colour": "blue", "shape": "heart", "texture": "dotted", "size": "small", "x": 45, "y": 40, "explained": 1.0},
    ]
    assert evidence["correct"] and evidence["relation"] is None


@pytest.mark.parametrize(
    ("caption", "things", "facts"),
    [
        ("a red star and a blue heart", [RED_STAR], {"colour": 0.5, "shape": 0.5, "count": 0.5, "correct": False}),
        # the right colour on the wrong shape is not right
        ("a blue star", [RED_STAR, BLUE_HEART], {"colour": 0, "shape": 1, "texture": 1, "correct": False}),
        ("two red stars", [RED_STAR], {"colour": 0.5, "shape": 0.5, "count": 0, "correct": False}),
        # each object counts once: three are not two, although the image has both that the caption names
        ("two red stars", [RED_STAR] * 3, {"colour": 1, "shape": 1, "count": 0, "correct": False}),
        ("a red star", [RED_STAR, BLUE_HEART], {"colour": 1, "count": 1, "correct": False}),
        ("a dotted red star", [RED_STAR], {"colour": 1, "texture": 0, "correct": False}),
        ("a large red star", [RED_STAR], {"correct": True}),
        ("a small red star", [RED_STAR], {"colour": 1, "count": 1, "correct": False}),
        ("a red star and a dotted blue heart", [], {"colour": 0, "shape": 0, "count": 0, "correct": False}),
        ("a red star left of a dotted blue heart", [RED_STAR, BLUE_HEART], {"relation": 1, "correct": True}),
        ("a dotted blue heart right of a red star", [RED_STAR, BLUE_HEART], {"relation": 1, "correct": True}),
        ("a red star above a dotted blue heart", [RED_STAR, BLUE_HEART], {"relation": 0, "correct": False}),
        ("a red star left of a blue circle", [RED_STAR, BLUE_HEART], {"relation": 0, "correct": False}),
        # the relation asks for shapes; colour distinguishes equal shapes
        ("a green star left of a blue heart", [RED_STAR, BLUE_HEART], {"relation": 1, "colour": 0.5}),
        ("a red star left of a blue star", [RED_STAR, replace(BLUE_HEART, shape="star")], {"relation": 1}),
        ("a blue star left of a red star", [RED_STAR, replace(BLUE_HEART, shape="star")], {"relation": 0}),
    ],
)
def test_rules(caption: str, things: list[SceneObject], facts: dict[str, float]) -> None:
    scored = compare(parse(caption), things)
    assert {name: scored[name] for name in facts} == facts


def test_the_value_is_the_categorys_own_fact() -> None:
    image = render(Scene("complex", (RED_STAR, BLUE_HEART)))
    text = "a green star above a striped blue heart"  # half of the colours and textures; the relation is wrong
    expected = {"colour": 0.5, "shape": 1, "texture": 0.5, "spatial": 0, "numeracy": 1, "complex": 1 / 3}
    scores = OracleScorer().score([image] * 6, [world_prompt("0", category, text) for category in expected])
    assert [score.value for score in scores] == pytest.approx(list(expected.values()))
    (plain,) = OracleScorer().score([image], [world_prompt("0", "complex", "a green star and a blue heart")])
    assert plain.value == pytest.approx((0.5 + 0.5) / 2)  # the caption has no relation, so none counts


VAGUE = "detail_0.5/"


@pytest.mark.parametrize(
    ("caption", "things", "facts"),
    [
        # what is not named may be anything, and other shapes may be there
        ("a star", [RED_STAR, BLUE_HEART], {"colour": None, "texture": None, "shape": 1, "count": 1, "correct": True}),
        ("a blue heart", [RED_STAR, BLUE_HEART], {"colour": 1, "texture": None, "correct": True}),
        ("a plain heart", [RED_STAR, BLUE_HEART], {"colour": None, "texture": 0, "shape": 1, "correct": False}),
        ("a red star and a heart", [RED_STAR, replace(BLUE_HEART, shape="circle")], {"colour": 1, "shape": 0.5}),
        ("two stars", [RED_STAR], {"shape": 0.5, "count": 0, "correct": False}),
        ("a large star", [replace(RED_STAR, size="small")], {"shape": 1, "correct": False}),
        ("a star left of a blue heart", [RED_STAR, BLUE_HEART], {"relation": 1, "colour": 1, "correct": True}),
        ("a star right of a heart", [RED_STAR, BLUE_HEART], {"relation": 0, "correct": False}),
    ],
)
def test_vague_prompts_are_scored_by_what_they_say(
    caption: str, things: list[SceneObject], facts: dict[str, float | None]
) -> None:
    prompt = world_prompt(f"{VAGUE}complex/seen/0000", "complex", caption)
    (score,) = OracleScorer().score([render(Scene("complex", tuple(things)))], [prompt])
    assert {name: score.evidence[name] for name in facts} == facts
    said = [score.evidence[part] for part in ("colour", "texture", "relation") if score.evidence[part] is not None]
    assert score.value == pytest.approx(sum(said) / len(said) if said else score.evidence["shape"])


def test_the_same_words_ask_for_more_in_a_full_prompt() -> None:
    image = render(Scene("texture", (replace(RED_STAR, texture="dotted"),)))
    full, vague = (world_prompt(f"{place}texture/seen/0000", "texture", "a red star") for place in ("", VAGUE))
    scores = OracleScorer().score([image, image], [full, vague])
    assert [score.value for score in scores] == [0, 1] and [score.evidence["correct"] for score in scores] == [False, True]


@pytest.mark.long
def test_true_images_satisfy_vague_prompts() -> None:
    prompts = [*prompt_set(6, detail=0.5)]
    scores = OracleScorer().score([render(scene_of(prompt)) for prompt in prompts], prompts)
    right = [score.value == 1 and score.evidence["correct"] for score in scores]
    assert sum(right) >= 0.98 * len(right)


def test_bad_requests() -> None:
    image = render(Scene("colour", (RED_STAR,)))
    for prompt, message in (
        (Prompt("7", "color", "a red star"), "Prompt 7 is of category 'color'"),
        (Prompt("7", "colour", "a red apple"), "'a red apple' is not a caption of the world"),
    ):
        with pytest.raises(ValueError, match=message):
            OracleScorer().score([image], [prompt])
    with pytest.raises(ValueError, match="prompt 7 has 128 x 64 pixels"):
        OracleScorer().score([Image.new("RGB", (128, 64))], [Prompt("7", "colour", "a red star")])
