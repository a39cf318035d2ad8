"""T2I-CompBench's rules of place (UniDet_eval), for any detector: boxes and depth -> score."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from eclipse_pl.scorers.detections import Box, Detection, iou

NEAR = 150 / 479
"""150 pixels of the official frame, whose side is 479, as a fraction of the image's longer side."""
OVERLAP_2D, OVERLAP_3D = 0.1, 0.5
PERSONS = {"girl": "person", "boy": "person", "man": "person", "woman": "person"}

BESIDE = ("next to", "on side of", "near")
BEHIND = ("behind", "hidden by", "hidden")
DEPTH = ("in front of", *BEHIND)
# which axis decides, and which sign of second centre minus first (y downwards)
_DIRECTIONS = {
    "on the right of": (0, -1),
    "on the left of": (0, 1),
    "on the bottom of": (1, -1),
    "on the top of": (1, 1),
}
RELATIONS = (*BESIDE, *_DIRECTIONS, "on top of", *DEPTH)


def position_2d(relation: str, first: Box, second: Box, side: int) -> float:
    """Score the ``relation`` of ``first`` to ``second`` from 0 to 1. ``side`` is the image's longer side in pixels.

    "On top of" scores 0, as in the official script, which only knows "on the top of".
    """
    offset = [b - a for a, b in zip(first.centre, second.centre, strict=True)]
    if relation in BESIDE:
        # one axis suffices, as in the official script, so nearly all pairs of boxes are near
        reach, largest = NEAR * side, max(map(abs, offset))
        return 1.0 if min(map(abs, offset)) < reach else reach / largest
    if relation not in _DIRECTIONS:
        return 0.0
    axis, sign = _DIRECTIONS[relation]
    if offset[axis] * sign <= 0 or abs(offset[axis]) <= abs(offset[1 - axis]):
        return 0.0
    overlap = iou(first, second)
    return 1.0 if overlap < OVERLAP_2D else OVERLAP_2D / overlap


def position_3d(relation: str, first: Box, second: Box, nearer: float) -> float:
    """Score a relation of depth. ``nearer`` is the mean inverse depth in the first box minus that in the second.

    Boxes that do not overlap score 0 at any depth (T2I-CompBench's issue 23).
    """
    if nearer == 0 or (nearer > 0) != (relation == "in front of"):
        return 0.0
    overlap = iou(first, second)
    if overlap > OVERLAP_3D:
        return 1.0
    return overlap / OVERLAP_3D if overlap < OVERLAP_3D else 0.0  # the official script gives 0 exactly at the limit


def spatial_score(first: Detection | None, second: Detection | None, position: float) -> float:
    """Add a quarter of each object's confidence, and half of the position where both objects exist."""
    confidences = [0.25 * found.confidence for found in (first, second) if found is not None]
    return sum(confidences) + (0.5 * position if len(confidences) == 2 else 0.0)


def cut_off(score: float) -> float:
    """Count 2D scores below 0.5 as 0, so that a single object never scores."""
    return score if score >= 0.5 else 0.0


def mean_in_box(depth: Float[Tensor, "height width"], box: Box) -> float:
    """Return the mean of a depth map over a box. The box is moved to hold at least one pixel of the image."""
    height, width = depth.shape
    left, top = min(max(int(box.x_min), 0), width - 1), min(max(int(box.y_min), 0), height - 1)
    right, bottom = max(int(box.x_max), left + 1), max(int(box.y_max), top + 1)
    return float(depth[top:bottom, left:right].mean())
