"""T2I-CompBench's rule of counts (UniDet_eval, numeracy), for any detector."""

from __future__ import annotations

from collections.abc import Sequence

from eclipse_pl.prompts.prompt import Required
from eclipse_pl.scorers.detections import Detection, deduplicate
from eclipse_pl.scorers.spatial_rules import PERSONS

RENAMES = {**PERSONS, "ship": "boat", "telivision": "tv", "goldfish": "fish", "painting": "picture"}
"""Other names for nouns, including the official script's misspelling."""


def counted_as(noun: str) -> str:
    return RENAMES.get(noun, noun)


def count_objects(required: Sequence[Required], detections: Sequence[Detection], pixel: float) -> list[int]:
    """Count the detections of each required object, without duplicates.

    Where no box has the noun as its label, boxes whose label contains the noun count ("phone" counts microphones).

    Args:
        required: Objects of the prompt.
        detections: Objects in the image.
        pixel: One pixel of the official frame, whose side is 479, in pixels of the image.
    """
    labels = [detection.label for detection in deduplicate(detections, pixel)]
    counts = []
    for wanted in required:
        noun = counted_as(wanted.noun)
        if noun not in labels:
            labels = [noun if noun in label else label for label in labels]
        counts.append(labels.count(noun))
    return counts


def numeracy_score(required: Sequence[Required], counts: Sequence[int]) -> float:
    """Mean over objects: half a point for any, half for the right number."""
    halves = [(found > 0) + (found > 0 and found == wanted.count) for wanted, found in zip(required, counts, strict=True)]
    return sum(halves) / (2 * len(required))
