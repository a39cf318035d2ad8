"""The grammar: a caption parses, and agrees with its scene but not with the counterpart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eclipse_pl.world.captions import Description, Phrase, describe, parse
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
    ["", "a dog", "a red circle and", "a circle", "a red circle or a blue star", "a red circle a blue star", "red stars"],
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


@pytest.mark.long
def test_captions_are_varied_and_mostly_of_5_to_20_tokens() -> None:
    captions = [describe(draw_scene(CATEGORIES[i % 6], (3, i)), i) for i in range(1200)]
    tokens = [len(caption.replace(",", " ,").split()) + 2 for caption in captions]
    assert max(tokens) <= 32
    assert sum(5 <= n <= 20 for n in tokens) > 0.9 * len(tokens)
    assert len(set(captions)) > 1150
    assert any(" an orange" in caption for caption in captions) and not any(" a orange" in caption for caption in captions)
