"""T2I-CompBench's rules of place and count on hand-made boxes, their borders included."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eclipse_pl.prompts.prompt import Required
from eclipse_pl.scorers.detections import Box, Detection, best, deduplicate, iou, suppress
from eclipse_pl.scorers.numeracy_rules import count_objects, numeracy_score
from eclipse_pl.scorers.spatial_rules import (
    NEAR,
    RELATIONS,
    cut_off,
    mean_in_box,
    position_2d,
    position_3d,
    spatial_score,
)
from tests.helpers.tiny_scorers import box

SIDE = 479


def found(label: str, confidence: float, *corners: float) -> Detection:
    return Detection(label, confidence, box(*corners))


def at(x: float, y: float, size: float = 40) -> Box:
    return box(x - size / 2, y - size / 2, x + size / 2, y + size / 2)


boxes = st.tuples(*[st.integers(0, 100)] * 4).map(
    lambda v: box(min(v[0], v[2]), min(v[1], v[3]), max(v[0], v[2]) + 1, max(v[1], v[3]) + 1)
)


def test_iou() -> None:
    a = box(0, 0, 10, 10)
    assert iou(a, a) == 1 and iou(a, box(10, 0, 20, 10)) == 0 and iou(a, box(20, 20, 30, 30)) == 0
    assert iou(a, box(5, 0, 15, 10)) == pytest.approx(1 / 3)
    # corners as whole pixels: 11 x 11 each, one column in common
    assert iou(a, box(10, 0, 20, 10), pixel=1.0) == pytest.approx(11 / (2 * 121 - 11))
    assert iou(box(3, 3, 3, 3), box(3, 3, 3, 3)) == 0


@given(boxes, boxes)
def test_iou_is_symmetric_and_a_part(a: Box, b: Box) -> None:
    assert 0 <= iou(a, b) == iou(b, a) <= 1
    assert iou(a, b, 1.0) >= 0


# first box at the centre; the second somewhere else
@pytest.mark.parametrize(
    ("relation", "second", "position"),
    [
        ("on the left of", at(340, 240), 1),
        ("on the left of", at(140, 240), 0),
        ("on the right of", at(140, 240), 1),
        ("on the right of", at(340, 240), 0),
        ("on the top of", at(240, 340), 1),
        ("on the top of", at(240, 140), 0),
        ("on the bottom of", at(240, 140), 1),
        ("on the bottom of", at(240, 340), 0),
        # the other axis is as far: neither
        ("on the left of", at(340, 340), 0),
        ("on the top of", at(340, 340), 0),
        ("on the left of", at(341, 340), 1),
        # the same place
        ("on the left of", at(240, 240), 0),
        # one axis is near enough, on the border none is
        ("next to", at(240 + 149.9, 440), 1),
        ("near", at(440, 240 - 149.9), 1),
        ("on side of", at(240 + 150, 240 + 150), 1),
        ("near", at(240 + 150, 240 + 300), 0.5),
        ("next to", at(240 + 300, 240 + 200), 0.5),
        ("near", at(240 + 200, 240 - 300), 0.5),
        ("on top of", at(240, 340), 0),
    ],
)
def test_positions(relation: str, second: Box, position: float) -> None:
    assert position_2d(relation, at(240, 240), second, SIDE) == pytest.approx(position)


@pytest.mark.parametrize(
    ("shift", "position"),
    [
        (9, 1),  # IoU = 1 / 19
        (90 / 11, 1),  # IoU = 0.1 exactly: 0.1 / IoU is 1 as well
        (5, 0.3),  # IoU = 1/3
        (1, 0.1 * 11 / 9),
    ],
)
def test_overlap_costs(shift: float, position: float) -> None:
    first, second = box(0, 0, 10, 10), box(shift, 0, 10 + shift, 10)
    assert position_2d("on the left of", first, second, SIDE) == pytest.approx(position)
    assert position_2d("on the right of", second, first, SIDE) == pytest.approx(position)
    first, second = box(0, 0, 10, 10), box(0, shift, 10, 10 + shift)
    assert position_2d("on the top of", first, second, SIDE) == pytest.approx(position)
    assert position_2d("on the bottom of", second, first, SIDE) == pytest.approx(position)


def test_near_is_a_part_of_the_side() -> None:
    assert pytest.approx(0.313, abs=5e-4) == NEAR
    far = [position_2d("near", at(0, 0), at(0.4 * side, 0.5 * side), side) for side in (64, 479, 1024)]
    assert far == pytest.approx([NEAR / 0.5] * 3)


@given(boxes, boxes, st.sampled_from(RELATIONS))
def test_positions_lie_between_0_and_1_and_exclude_their_opposites(a: Box, b: Box, relation: str) -> None:
    opposites = {"on the left of": "on the right of", "on the top of": "on the bottom of", "in front of": "behind"}
    assert 0 <= position_2d(relation, a, b, 100) <= 1
    for name, opposite in opposites.items():
        assert position_2d(name, a, b, 100) == position_2d(opposite, b, a, 100)
        assert position_2d(name, a, b, 100) == 0 or position_2d(opposite, a, b, 100) == 0
        assert position_3d(name, a, b, 0.1) == 0 or position_3d(opposite, a, b, 0.1) == 0


@pytest.mark.parametrize(
    ("relation", "nearer", "shift", "position"),
    [
        ("in front of", 0.1, 0, 1),
        ("in front of", -0.1, 0, 0),
        ("in front of", 0.0, 0, 0),
        ("behind", -0.1, 0, 1),
        ("hidden by", -0.1, 0, 1),
        ("hidden by", 0.1, 0, 0),
        ("behind", 0.0, 0, 0),
        ("in front of", 0.1, 5, 2 / 3),  # IoU = 1/3
        ("behind", -0.1, 5, 2 / 3),
        ("in front of", 0.1, 10, 0),  # side by side
        ("in front of", 0.1, 20, 0),
    ],
)
def test_depth(relation: str, nearer: float, shift: float, position: float) -> None:
    assert position_3d(relation, box(0, 0, 10, 10), box(shift, 0, 10 + shift, 10), nearer) == pytest.approx(position)


def test_depth_at_the_border_of_overlap_gives_nothing() -> None:
    """IoU of exactly 0.5 is neither above nor below, and the official script forgets it."""
    assert iou(box(0, 0, 2, 1), box(0, 0, 1, 1)) == 0.5
    assert position_3d("in front of", box(0, 0, 2, 1), box(0, 0, 1, 1), 0.1) == 0


def test_spatial_score() -> None:
    a, b = found("cat", 0.8, 0, 0, 1, 1), found("dog", 0.6, 0, 0, 1, 1)
    assert spatial_score(a, b, 1.0) == pytest.approx(0.85)
    assert spatial_score(a, b, 0.0) == pytest.approx(0.35)
    assert spatial_score(a, None, 1.0) == pytest.approx(0.2)
    assert spatial_score(None, b, 1.0) == pytest.approx(0.15)
    assert spatial_score(None, None, 1.0) == 0


def test_cut_off_at_a_half() -> None:
    assert cut_off(0.4999) == 0 and cut_off(0.5) == 0.5 and cut_off(0.7) == 0.7
    sure = found("cat", 1.0, 0, 0, 1, 1)
    assert cut_off(spatial_score(sure, None, 1.0)) == 0  # one object alone never scores


def test_depth_is_read_row_by_column_and_inside_the_image() -> None:
    depth = torch.arange(6.0).reshape(2, 3)  # rows are y
    assert mean_in_box(depth, box(2, 0, 3, 2)) == 3.5
    assert mean_in_box(depth, box(0, 1, 3, 2)) == 4
    assert mean_in_box(depth, box(-5, -5, 1, 1)) == 0
    assert mean_in_box(depth, box(2.2, 1.2, 2.4, 1.3)) == 5  # smaller than a pixel
    assert mean_in_box(depth, box(7, 7, 9, 9)) == 5


def test_suppression_is_per_label() -> None:
    boxes = [
        found("cat", 0.5, 0, 0, 10, 10),
        found("cat", 0.9, 1, 0, 11, 10),
        found("dog", 0.4, 0, 0, 10, 10),
        found("cat", 0.3, 20, 0, 30, 10),
    ]
    assert [d.confidence for d in suppress(boxes, 0.5)] == [0.9, 0.4, 0.3]
    assert [d.confidence for d in suppress(boxes, 1.0)] == [0.9, 0.5, 0.4, 0.3]
    border = [found("cat", 0.9, 0, 0, 2, 1), found("cat", 0.8, 0, 0, 1, 1)]  # IoU = 0.5
    assert len(suppress(border, 0.5)) == 2 and len(suppress(border, 0.49)) == 1
    assert [d.confidence for d in best(boxes, "cat")] == [0.9, 0.5, 0.3] and best(boxes, "bird") == []


@pytest.mark.parametrize(
    ("second", "kept"),
    [
        ((0, 0, 99, 99), 1),
        ((0, 0, 99, 94), 1),  # 95 of 100 rows
        ((0, 0, 99, 89), 1),  # exactly 0.9 of the first, and all of the second
        ((0, 10, 99, 109), 2),  # 90 of 100 rows of each: covered by exactly 0.9
        ((0, 9, 99, 108), 1),  # 91 rows
        ((40, 40, 60, 60), 1),  # inside
        ((200, 0, 299, 99), 2),
    ],
)
def test_doubles_are_counted_once(second: tuple[float, ...], kept: int) -> None:
    """Corners are whole pixels: 0 to 99 is 100 wide."""
    boxes = [found("cat", 0.9, 0, 0, 99, 99), found("cat", 0.8, *second), found("dog", 0.7, 0, 0, 99, 99)]
    assert [d.label for d in deduplicate(boxes, pixel=1.0)] == ["cat"] * kept + ["dog"]
    assert deduplicate(boxes, pixel=1.0)[0].confidence == 0.9


def count(required: list[tuple[str, int]], labels: list[str]) -> tuple[list[int], float]:
    wanted = [Required(noun, number) for noun, number in required]
    boxes = [found(label, 0.9, 100 * i, 0, 100 * i + 50, 50) for i, label in enumerate(labels)]
    counts = count_objects(wanted, boxes, pixel=1.0)
    return counts, numeracy_score(wanted, counts)


@pytest.mark.parametrize(
    ("required", "labels", "counts", "score"),
    [
        ([("dog", 2)], ["dog", "dog"], [2], 1),
        ([("dog", 2)], ["dog"], [1], 0.5),
        ([("dog", 2)], [], [0], 0),
        ([("dog", 2), ("cat", 1)], ["dog", "dog", "dog", "cat"], [3, 1], 0.75),
        ([("boy", 1), ("ship", 2)], ["person", "boat", "boat"], [1, 2], 1),
        ([("goldfish", 1), ("painting", 1), ("telivision", 1)], ["fish", "picture", "tv"], [1, 1, 1], 1),
        # no box is called phone: whatever contains the word counts
        ([("phone", 2)], ["microphone", "saxophone", "dog"], [2], 1),
        ([("phone", 1)], ["phone", "microphone"], [1], 1),
        ([("phone", 1), ("microphone", 1)], ["microphone"], [1, 0], 0.5),
    ],
)
def test_counts(required: list[tuple[str, int]], labels: list[str], counts: list[int], score: float) -> None:
    assert count(required, labels) == (counts, pytest.approx(score))
