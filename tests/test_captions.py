"""The grammar: a caption parses, and agrees with its scene but not with the counterpart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eclipse_pl.world.captions import OPPOSITE, Description, Phrase, describe, fits, parse
from eclipse_pl.world.scenes import CATEGORIES, Scene, SceneObject, counterpart, draw_scene
from tests.helpers.agreement import agrees

# Scenes are drawn inside the tests: beartype uses `random`, which strategies must not.
seeds = st.tuples(st.sampled_from(CATEGORIES), st.integers(0, 2**32))
wordings = st.integers(0, 2**31)


@given(seeds, wordings)
def test_parse_undoes_describe(seed: tuple[str, int], wording: int) -> None:
    scene = draw_scene(seed[0], seed[1:])
    said = parse(describe(scene, wording))
    assert agrees(said, scene)
    assert sum(phrase.count for phrase in said.phrases) == len(scene.objects)
    assert (said.relation is None) == (scene.relation is None)


@given(seeds, wordings)
def test_no_caption_fits_the_counterpart(seed: tuple[str, int], wording: int) -> None:
    scene = draw_scene(seed[0], seed[1:])
    if other := counterpart(scene):
        assert describe(other, wording) != describe(scene, wording)
        assert not agrees(parse(describe(scene, wording)), other)
        assert agrees(parse(describe(other, wording)), other)


@pytest.mark.parametrize(
    ("caption", "said"),
    [
        ("three red stars", Description((Phrase(3, None, "plain", "red", "star"),))),
        (
            "Two Red Crosses and an orange circle.",
            Description((Phrase(2, None, "plain", "red", "cross"), Phrase(1, None, "plain", "orange", "circle"))),
        ),
        (
            "a large dotted green square above a plain yellow heart",
            Description(
                (Phrase(1, "large", "dotted", "green", "square"), Phrase(1, None, "plain", "yellow", "heart")), "above"
            ),
        ),
        (
            "there is a red circle, a blue star and a white cross",
            Description(
                tuple(Phrase(1, None, "plain", c, s) for c, s in (("red", "circle"), ("blue", "star"), ("white", "cross")))
            ),
        ),
    ],
)
def test_captions_by_hand(caption: str, said: Description) -> None:
    assert parse(caption) == said


@pytest.mark.parametrize(
    "caption",
    ["", "a dog", "a red circle and", "a red", "a red circle or a blue star", "a red circle a blue star", "red stars"],
)
def test_other_texts_are_refused(caption: str) -> None:
    with pytest.raises(ValueError, match="not a caption of the world"):
        parse(caption)


def test_agreement_is_exact() -> None:
    left = SceneObject("red", "circle", "plain", "small", 12, 30)
    right = SceneObject("blue", "star", "striped", "large", 45, 30)
    scene = Scene("spatial", (left, right))
    for caption in ("a red circle left of a striped blue star", "a large striped blue star to the right of a red circle"):
        assert agrees(parse(caption), scene)
    for caption in (
        "a red circle right of a striped blue star",
        "a red circle above a striped blue star",
        "a red circle left of a blue star",
        "a large red circle left of a striped blue star",
        "a striped blue star and a green circle",
        "two red circles and a striped blue star",
        "a red circle",
    ):
        assert not agrees(parse(caption), scene), caption


details = st.floats(0, 1)
numbers = st.integers(0, 4)


def content(said: Description) -> set[tuple[str, str | None, int | str | None]]:
    """Everything that a caption says, one entry a fact: (shape, part, value); a relation with both of its shapes."""
    facts = {(p.shape, part, getattr(p, part)) for p in said.phrases for part in ("count", "size", "texture", "colour")}
    relation = said.relation and (said.phrases[0].shape, said.relation, said.phrases[1].shape)
    return {fact for fact in facts if fact[2] is not None} | ({relation} if relation else set())


@given(seeds, wordings, details, numbers)
def test_a_vague_caption_is_true_of_its_scene(seed: tuple[str, int], wording: int, detail: float, number: int) -> None:
    scene = draw_scene(seed[0], seed[1:])
    said = parse(describe(scene, wording, detail, number), vague=True)
    assert fits(said, scene.objects)
    for phrase in said.phrases:
        group = next(group for kind, group in scene.kinds.items() if kind[1] == phrase.shape)
        assert phrase.count == len(group) and phrase.is_true_of(group[0])


@given(seeds, wordings, details, details, numbers)
def test_less_detail_says_a_part_of_what_more_detail_says(
    seed: tuple[str, int], wording: int, one: float, other: float, number: int
) -> None:
    scene = draw_scene(seed[0], seed[1:])
    less, more = (content(parse(describe(scene, wording, detail, number), vague=True)) for detail in sorted((one, other)))
    assert less <= more


@given(seeds, wordings, numbers)
def test_detail_1_leaves_nothing_out_and_detail_0_all_but_one_shape(seed: tuple[str, int], wording: int, number: int) -> None:
    scene = draw_scene(seed[0], seed[1:])
    full = parse(describe(scene, wording, 1.0, number))
    assert agrees(full, scene) and not full.vague
    assert describe(scene, wording, 1.0, 0) == describe(scene, wording)
    (phrase,) = parse(describe(scene, wording, 0.0, number)).phrases
    assert (phrase.size, phrase.texture, phrase.colour) == (None, None, None)


@given(seeds, wordings, details, numbers)
def test_what_a_counterpart_fits(seed: tuple[str, int], wording: int, detail: float, number: int) -> None:
    """It fits exactly if all that the caption says of each shape is true of it too; a full caption never does."""
    scene = draw_scene(seed[0], seed[1:])
    if (other := counterpart(scene)) is None:
        return
    caption = describe(scene, wording, detail, number)
    theirs = {part for kind, group in other.kinds.items() for part in facts_of(kind, group)}
    said = content(parse(caption, vague=True))
    relations = {fact for fact in said if fact[1] in OPPOSITE}
    true = said - relations <= theirs and all(true_relation(fact, other) for fact in relations)
    assert fits(parse(caption, vague=True), other.objects) == true
    assert not fits(parse(describe(scene, wording, 1.0, number)), other.objects)


def facts_of(kind: tuple[str, str, str], group: list[SceneObject]) -> list[tuple[str, str, int | str]]:
    colour, shape, texture = kind
    facts = {"count": len(group), "size": group[0].size, "texture": texture, "colour": colour}
    return [(shape, part, value) for part, value in facts.items()]


def true_relation(fact: tuple[str, str | None, int | str | None], scene: Scene) -> bool:
    first, second = (next(thing for thing in scene.objects if thing.shape == shape) for shape in (fact[0], fact[2]))
    dx, dy = first.x - second.x, first.y - second.y
    return {"left": dx < -abs(dy), "right": dx > abs(dy), "above": dy < -abs(dx), "below": dy > abs(dx)}[str(fact[1])]


@pytest.mark.long
def test_each_part_is_kept_as_often_as_the_detail_says() -> None:
    scenes = [draw_scene("complex", (4, i)) for i in range(3000)]
    detail, kept = 0.3, {"object": [], "size": [], "colour": [], "texture": [], "relation": []}
    others = 0
    for i, scene in enumerate(scenes):
        full, said = parse(describe(scene, i)), parse(describe(scene, i, detail), vague=True)
        kept["object"].append((len(said.phrases) - 1) / (len(full.phrases) - 1))
        kept["colour"] += [phrase.colour is not None for phrase in said.phrases]
        kept["size"] += [phrase.size is not None for phrase in said.phrases if full.phrases[0].size]
        textures = {p.shape: p.texture for p in full.phrases}
        kept["texture"] += [p.texture is not None for p in said.phrases if textures[p.shape] != "plain"]
        if len(said.phrases) > 1 and {p.shape for p in said.phrases[:2]} == {o.shape for o in scene.objects[:2]}:
            kept["relation"].append(said.relation is not None)
        other = parse(describe(scene, i, detail, 1), vague=True)
        others += {(p.shape, p.colour) for p in said.phrases} != {(p.shape, p.colour) for p in other.phrases}
    for part, found in kept.items():
        assert sum(found) / len(found) == pytest.approx(detail, abs=4 * (detail * 0.7 / len(found)) ** 0.5), part
    assert others > len(scenes) / 2, "the captions of a scene leave out different parts"


@pytest.mark.parametrize(
    ("caption", "vague", "said"),
    [
        ("a circle", False, Description((Phrase(1, None, None, None, "circle"),), None, True)),
        ("a red star", False, Description((Phrase(1, None, "plain", "red", "star"),))),
        ("a red star", True, Description((Phrase(1, None, None, "red", "star"),), None, True)),
        (
            "one can see two small stars left of a striped heart",
            False,
            Description((Phrase(2, "small", None, None, "star"), Phrase(1, None, "striped", None, "heart")), "left", True),
        ),
    ],
)
def test_vague_captions_by_hand(caption: str, vague: bool, said: Description) -> None:
    assert parse(caption, vague) == said


def test_what_fits_is_exact() -> None:
    star, heart = (
        SceneObject("red", "star", "plain", "small", 12, 30),
        SceneObject("blue", "heart", "dotted", "large", 45, 30),
    )
    scene = [star, heart, SceneObject("green", "heart", "dotted", "small", 30, 50)]
    for caption in (
        "a star", "a red star", "a plain star", "two hearts", "two dotted hearts", "a star left of two hearts",
        "a blue heart and a green heart", "a green heart and a blue heart", "a large heart and a green heart",
    ):  # fmt: skip
        assert fits(parse(caption, vague=True), scene), caption
    for caption in (
        "two stars", "a heart", "a large star", "a striped star", "two blue hearts", "a star right of two hearts",
        "a circle", "a blue heart and a large green heart",
    ):  # fmt: skip
        assert not fits(parse(caption, vague=True), scene), caption


@pytest.mark.long
def test_captions_are_varied_and_mostly_of_5_to_20_tokens() -> None:
    captions = [describe(draw_scene(CATEGORIES[i % 6], (3, i)), i) for i in range(1200)]
    tokens = [len(caption.replace(",", " ,").split()) + 2 for caption in captions]
    assert max(tokens) <= 32
    assert sum(5 <= n <= 20 for n in tokens) > 0.9 * len(tokens)
    assert len(set(captions)) > 1150
    assert any(" an orange" in caption for caption in captions) and not any(" a orange" in caption for caption in captions)
