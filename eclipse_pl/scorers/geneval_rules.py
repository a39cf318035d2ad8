"""GenEval's rules, as pure functions: did the detector find the objects of the prompt? (Ghosh et al. 2023, evaluation code)

GenEval chose the thresholds for its own detector, Mask2Former Swin-S of mmdetection 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from eclipse_pl.prompts.prompt import Prompt, Required
from eclipse_pl.scorers.detections import Detection

CONFIDENCE = 0.3
COUNTING_CONFIDENCE = 0.9
"""An object counts above this confidence. The second is for prompts of the tag ``counting``."""
MOST_OBJECTS = 16
"""Most objects of a class. The most confident ones count."""
SLACK = 0.1
"""Fraction of both objects' widths (heights) that is subtracted from their distance on an axis."""
DIRECTION = 0.5
"""Fraction of the distance that must lie on an axis."""


Colours = Callable[[str, Sequence[Detection]], Sequence[str]]
"""(noun, objects) -> the colour of each object, one of GenEval's ten."""


def failures(
    prompt: Prompt,
    detected: Mapping[str, Sequence[Detection]],
    colours: Colours | None = None,
    confidence: float = CONFIDENCE,
    counting_confidence: float = COUNTING_CONFIDENCE,
) -> list[str]:
    """Return the reasons why the image does not show the prompt; none where it does.

    Entries of ``required`` are checked in order, each with its ``count`` most confident objects of ``detected``. A position
    is checked against the objects of the entry that it names, and fails where that entry failed.

    Raises:
        ValueError: The prompt requires nothing, or a colour without a classifier.
    """
    if not prompt.required:
        raise ValueError(f"Prompt {prompt.id} requires nothing; GenEval's rules score prompts of the suite geneval only.")
    threshold = counting_confidence if prompt.category == "counting" else confidence
    confident = {noun: _confident(objects, threshold) for noun, objects in detected.items()}
    reasons: list[str] = []
    matched: list[Sequence[Detection] | None] = []
    for entry in prompt.required:
        found = confident.get(entry.noun, [])[: entry.count]
        reason = _missing(entry, found, colours)
        if reason is None and entry.position is not None:
            relation, other = entry.position
            reason = _misplaced(entry, found, relation, matched[other])
        matched.append(found if reason is None else None)
        reasons += [] if reason is None else [reason]
    for entry in prompt.excluded:
        if (n := len(confident.get(entry.noun, []))) >= entry.count:
            reasons.append(f"{n} of {entry.noun}, fewer than {entry.count} wanted")
    return reasons


def relative_positions(one: Detection, other: Detection) -> set[str]:
    """Return the position of ``one`` relative to ``other``: up to two of ``left of``, ``right of``, ``above``, ``below``.

    The offset of the centres is shortened by ``SLACK`` of both sizes on each axis and divided by its original length. Objects
    that are near each other therefore have no direction.
    """
    x, y = (ours - theirs for ours, theirs in zip(one.box.centre, other.box.centre, strict=True))
    across = _shorten(x, SLACK * (one.box.width + other.box.width))
    down = _shorten(y, SLACK * (one.box.height + other.box.height))
    if max(abs(across), abs(down)) < 1e-3:  # equal centres have a distance of 0, too
        return set()
    distance = math.hypot(x, y)
    holds = {
        "left of": across / distance < -DIRECTION,
        "right of": across / distance > DIRECTION,
        "above": down / distance < -DIRECTION,
        "below": down / distance > DIRECTION,
    }
    return {relation for relation, true in holds.items() if true}


def _confident(objects: Sequence[Detection], threshold: float) -> list[Detection]:
    """Return objects above the threshold, the most confident first. Equal ones keep their order."""
    kept = [found for found in objects if found.confidence > threshold]
    return sorted(kept, key=lambda found: -found.confidence)[:MOST_OBJECTS]


def _missing(entry: Required, found: Sequence[Detection], colours: Colours | None) -> str | None:
    if len(found) < entry.count:
        return f"{len(found)} of {entry.noun}, {entry.count} wanted"
    if entry.colour is None:
        return None
    if colours is None:
        raise ValueError(f"The prompt requires a {entry.colour} {entry.noun}, and no colour classifier was given: pass one.")
    seen = list(colours(entry.noun, found))
    if seen.count(entry.colour) >= entry.count:
        return None
    return f"{seen.count(entry.colour)} {entry.colour} of {entry.noun} ({', '.join(seen)}), {entry.count} wanted"


def _misplaced(entry: Required, found: Sequence[Detection], relation: str, others: Sequence[Detection] | None) -> str | None:
    if others is None:
        return f"nothing for {entry.noun} to be {relation}"
    for one in found:
        for other in others:
            if relation not in (positions := relative_positions(one, other)):
                return f"{entry.noun} is {' and '.join(sorted(positions)) or 'in no direction'}, {relation} wanted"
    return None


def _shorten(offset: float, by: float) -> float:
    return math.copysign(max(abs(offset) - by, 0.0), offset)
