"""GenEval's rules on hand-made boxes, borders included."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eclipse_pl.prompts.prompt import Prompt, Required
from eclipse_pl.scorers.detections import Box, Detection
from eclipse_pl.scorers.geneval_rules import failures, relative_positions

KITE = Prompt("x/0", "single_object", "a photo of a kite", required=(Required("kite", 1),))


def at(x: float, y: float, size: float = 10, confidence: float = 0.95) -> Detection:
    """A square around its centre."""
    return Detection("kite", confidence, Box(x - size / 2, y - size / 2, x + size / 2, y + size / 2))


def asking(*required: Required, tag: str = "two_object", excluded: tuple[Required, ...] = ()) -> Prompt:
    return Prompt("x/0", tag, "", required=required, excluded=excluded)


def test_there_or_not() -> None:
    assert failures(KITE, {"kite": [at(0, 0)], "sink": [at(5, 5)]}) == []
    assert failures(KITE, {"sink": [at(0, 0)]}) == failures(KITE, {}) == ["0 of kite, 1 wanted"]


@pytest.mark.parametrize(
    ("tag", "confidence", "found"),
    [("single_object", 0.3, False), ("single_object", 0.301, True), ("counting", 0.9, False), ("counting", 0.901, True)],
)
def test_confidence_must_be_above_the_threshold(tag: str, confidence: float, found: bool) -> None:
    assert (failures(asking(Required("kite", 1), tag=tag), {"kite": [at(0, 0, confidence=confidence)]}) == []) == found


def test_counting_means_exactly_that_many() -> None:
    three = asking(Required("kite", 3), tag="counting", excluded=(Required("kite", 4),))
    kites = [at(20 * i, 0) for i in range(4)]
    assert failures(three, {"kite": kites[:3]}) == []
    assert failures(three, {"kite": kites[:2]}) == ["2 of kite, 3 wanted"]
    assert failures(three, {"kite": kites}) == ["4 of kite, fewer than 4 wanted"]
    assert failures(three, {"kite": [*kites[:3], at(0, 0, confidence=0.8)]}) == []


def test_more_than_sixteen_of_a_class_are_not_counted() -> None:
    many = asking(Required("kite", 17), tag="counting")
    assert failures(many, {"kite": [at(20 * i, 0) for i in range(20)]}) == ["16 of kite, 17 wanted"]


def test_colours_of_the_most_confident() -> None:
    two = asking(Required("kite", 2, "red"))
    kites = [at(0, 0, confidence=0.5), at(20, 0, confidence=0.9), at(40, 0, confidence=0.7)]
    seen: dict[float, str] = {0.5: "blue", 0.9: "red", 0.7: "red"}
    asked: list[list[float]] = []

    def colours(noun: str, objects: object) -> list[str]:
        assert noun == "kite" and isinstance(objects, list)
        asked.append([found.confidence for found in objects])
        return [seen[found.confidence] for found in objects]

    assert failures(two, {"kite": kites}, colours) == [] and asked == [[0.9, 0.7]]
    seen[0.7] = "pink"
    assert failures(two, {"kite": kites}, colours) == ["1 red of kite (red, pink), 2 wanted"]
    assert failures(two, {"kite": kites[:1]}, colours) == ["1 of kite, 2 wanted"] and len(asked) == 2
    with pytest.raises(ValueError, match="no colour classifier was given"):
        failures(two, {"kite": kites})


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (100, 0, {"right of"}),
        (-100, 0, {"left of"}),
        (0, 100, {"below"}),
        (0, -100, {"above"}),
        (100, 100, {"right of", "below"}),
        (0, 0, set()),  # one on the other: no direction, and nothing is divided by zero
        (2, 0, set()),  # shortened by 0.1 (10 + 10) = 2 to nothing
        (4, 0, set()),  # (4 - 2) / 4 = 0.5, which is not above 0.5
        (-4, 0, set()),
        (0, 4, set()),
        (0, -4, set()),
        (4.1, 0, {"right of"}),  # (4.1 - 2) / 4.1 = 0.51
        (100, 51, {"right of"}),  # 0.87 across, 0.44 down
        (100, 60, {"right of"}),  # 0.84 across, 0.497 down
        (100, 61, {"right of", "below"}),  # 0.84 across, 0.504 down: the norm is that of the offset before it was shortened
    ],
)
def test_relative_positions(x: float, y: float, expected: set[str]) -> None:
    assert relative_positions(at(x, y), at(0, 0)) == expected


@given(*[st.floats(-200, 200)] * 4, st.floats(1, 50), st.floats(1, 50))
def test_opposite_seen_from_the_other(x: float, y: float, u: float, v: float, size: float, other: float) -> None:
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    forth, back = relative_positions(at(x, y, size), at(u, v, other)), relative_positions(at(u, v, other), at(x, y, size))
    assert {opposite[relation] for relation in forth} == back and len(forth) <= 2


def test_position_against_the_entry_that_it_names() -> None:
    left = asking(Required("sink", 1), Required("kite", 1, None, ("left of", 0)), tag="position")
    assert failures(left, {"sink": [at(100, 0)], "kite": [at(0, 0)]}) == []
    assert failures(left, {"sink": [at(0, 0)], "kite": [at(100, 0)]}) == ["kite is right of, left of wanted"]
    assert failures(left, {"sink": [at(0, 0)], "kite": [at(0, 0)]}) == ["kite is in no direction, left of wanted"]
    assert failures(left, {"kite": [at(0, 0)]}) == ["0 of sink, 1 wanted", "nothing for kite to be left of"]


def test_every_pair_must_stand_in_the_position() -> None:
    sinks, kites = Required("sink", 2), Required("kite", 2, None, ("left of", 0))
    row = {"sink": [at(100, 0), at(300, 0)], "kite": [at(0, 0), at(50, 0)]}
    assert failures(asking(sinks, kites, tag="position"), row) == []
    for noun, x in (("kite", 200), ("sink", 20)):  # the second one of its noun
        mixed = {**row, noun: [row[noun][0], at(x, 0)]}
        assert failures(asking(sinks, kites, tag="position"), mixed) == ["kite is right of, left of wanted"]


def test_an_entry_that_failed_places_no_pair() -> None:
    chain = asking(
        Required("sink", 1), Required("kite", 1, None, ("left of", 0)), Required("bear", 1, None, ("above", 1)), tag="position"
    )
    found = {"sink": [at(0, 0)], "kite": [at(100, 0)], "bear": [at(100, -100)]}
    assert failures(chain, found) == ["kite is right of, left of wanted", "nothing for bear to be above"]


def test_prompts_that_require_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="GenEval's rules score prompts of the suite geneval only"):
        failures(Prompt("x/0", "color", "a red cup"), {})
