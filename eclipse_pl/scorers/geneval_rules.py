"""GenEval's rules: is what a prompt asks for among the objects that a detector found? (Ghosh et al. 2023, evaluation code)

Pure functions; detector and colour classifier belong to whoever calls. A score by another detector than theirs (Mask2Former
Swin-S of mmdetection 2) bears that detector's name: the thresholds were set for theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from eclipse_pl.prompts.prompt import Prompt, Required

CONFIDENCE = 0.3
COUNTING_CONFIDENCE = 0.9
"""An object counts where its confidence is above this; the second for prompts of the tag ``counting``."""
MOST_OBJECTS = 16
"""Of a class, the most confident."""
SLACK = 0.1
"""Of both objects' widths (heights), by which their distance on an axis is shortened before it decides on left or right."""
DIRECTION = 0.5
"""Share of the distance that must lie on an axis."""


class DetectedObject(NamedTuple):
    """Left, top, right and bottom in pixels, and the detector's confidence from 0 to 1."""

    box: tuple[float, float, float, float]
    confidence: float


Objects = Mapping[str, Sequence[DetectedObject]]
Colours = Callable[[str, Sequence[DetectedObject]], Sequence[str]]
"""(class, objects) -> the colour of each object, one of GenEval's ten."""


def failures(
    prompt: Prompt,
    detected: Objects,
    colours: Colours | None = None,
    confidence: float = CONFIDENCE,
    counting_confidence: float = COUNTING_CONFIDENCE,
) -> list[str]:
    """Why the image is not what the prompt asks for; empty where it is. ``detected`` holds all objects of each class.

    Objects are asked for in the order of ``required``, each its ``count`` most confident ones. A position is held against the
    objects of the entry that it names, and fails where that entry failed. ValueError where a colour is asked for and nobody
    can tell it, or where the prompt requires nothing.
    """
    if not prompt.required:
        raise ValueError(f"Prompt {prompt.id} requires nothing; GenEval's rules score prompts of the suite geneval only.")
    threshold = counting_confidence if prompt.category == "counting" else confidence
    confident = {noun: _confident(objects, threshold) for noun, objects in detected.items()}
    reasons: list[str] = []
    matched: list[Sequence[DetectedObject] | None] = []
    for entry in prompt.required:
        found = confident.get(entry.noun, [])[: entry.count]
        reason = _lack(entry, found, colours)
        if reason is None and entry.position is not None:
            relation, other = entry.position
            reason = _misplaced(entry, found, relation, matched[other])
        matched.append(found if reason is None else None)
        reasons += [] if reason is None else [reason]
    for entry in prompt.excluded:
        if (n := len(confident.get(entry.noun, []))) >= entry.count:
            reasons.append(f"{n} of {entry.noun}, fewer than {entry.count} wanted")
    return reasons


def relative_positions(one: DetectedObject, other: DetectedObject) -> set[str]:
    """How ``one`` stands to ``other``: up to two of ``left of``, ``right of``, ``above``, ``below``; none where they overlap.

    The offset of the centres is shortened by ``SLACK`` of both sizes on each axis, then divided by the length of the offset
    as it was: objects that are near each other have no direction, and an object straight beside has one.
    """
    x, width = _centre(one, 0) - _centre(other, 0), _size(one, 0) + _size(other, 0)
    y, height = _centre(one, 1) - _centre(other, 1), _size(one, 1) + _size(other, 1)
    across, down = _shorten(x, SLACK * width), _shorten(y, SLACK * height)
    if max(abs(across), abs(down)) < 1e-3:  # also where both centres are one, whose distance nothing is divided by
        return set()
    distance = math.hypot(x, y)
    holds = {
        "left of": across / distance < -DIRECTION,
        "right of": across / distance > DIRECTION,
        "above": down / distance < -DIRECTION,
        "below": down / distance > DIRECTION,
    }
    return {relation for relation, true in holds.items() if true}


def overall(correct: Mapping[str, Sequence[bool]]) -> float:
    """GenEval's score: the mean over tags of the share of correct images, whatever the number of images of each tag."""
    return sum(sum(images) / len(images) for images in correct.values()) / len(correct)


def _confident(objects: Sequence[DetectedObject], threshold: float) -> list[DetectedObject]:
    """The most confident first; of equals the first first."""
    kept = [found for found in objects if found.confidence > threshold]
    return sorted(kept, key=lambda found: -found.confidence)[:MOST_OBJECTS]


def _lack(entry: Required, found: Sequence[DetectedObject], colours: Colours | None) -> str | None:
    if len(found) < entry.count:
        return f"{len(found)} of {entry.noun}, {entry.count} wanted"
    if entry.colour is None:
        return None
    if colours is None:
        raise ValueError(f"A {entry.colour} {entry.noun} is asked for, and no colour classifier was given.")
    seen = list(colours(entry.noun, found))
    if seen.count(entry.colour) >= entry.count:
        return None
    return f"{seen.count(entry.colour)} {entry.colour} of {entry.noun} ({', '.join(seen)}), {entry.count} wanted"


def _misplaced(
    entry: Required, found: Sequence[DetectedObject], relation: str, others: Sequence[DetectedObject] | None
) -> str | None:
    if others is None:
        return f"nothing for {entry.noun} to be {relation}"
    for one in found:
        for other in others:
            if relation not in (positions := relative_positions(one, other)):
                return f"{entry.noun} is {' and '.join(sorted(positions)) or 'in no direction'}, {relation} wanted"
    return None


def _centre(found: DetectedObject, axis: int) -> float:
    return (found.box[axis] + found.box[axis + 2]) / 2


def _size(found: DetectedObject, axis: int) -> float:
    return abs(found.box[axis + 2] - found.box[axis])


def _shorten(offset: float, by: float) -> float:
    return math.copysign(max(abs(offset) - by, 0.0), offset)
