"""Evidence: what a score was made of, in the three forms that the page shows: boxes, questions and other facts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

BOXES = 50
"""Boxes of a score, at most: a detector without a threshold finds hundreds."""
CHARACTERS = 400
"""Of one fact."""


def shown_evidence(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a scorer's evidence.

    The rows of a scorecard may be anybody's: what has not the form of boxes or questions is shown as a fact, in words.

    Args:
        evidence: As scorers write it. A list of ``{label, confidence, box}`` is drawn, with ``box`` as ``[x_min, y_min, x_max,
            y_max]`` in pixels of the image. A list of ``{question, answer, probability}`` is shown as questions. So are the
            scorers' short forms: ``questions`` or ``question`` with ``yes``, the probability of that answer.

    Returns:
        ``boxes`` as ``[label, confidence, x_min, y_min, x_max, y_max]``, the most confident first; ``questions`` as
        ``[question, answer, probability, more words]``; ``facts`` as ``[name, words]``; and ``size``, the image's width and
        height where the scorer wrote them. Empty ones are left out. There is no NaN.
    """
    shown: dict[str, list[Any]] = {"boxes": [], "questions": [], "facts": []}
    rest = dict(evidence)
    shown["questions"] += questions_with_yes(rest)
    size = rest.pop("size", None)
    for name, value in rest.items():
        if name == "boxes" and all_of(value, is_box):
            shown["boxes"] = sorted(map(row_of_box, value), key=lambda row: -(row[1] or 0))
        elif all_of(value, is_question):
            shown["questions"] += [row_of_question(one) for one in value]
        elif name != "failed":  # the image says it
            shown["facts"].append([str(name), in_words(value)[:CHARACTERS]])
    if len(shown["boxes"]) > BOXES:
        shown["facts"].append(["boxes", f"the {BOXES} most confident of {len(shown['boxes'])}"])
        shown["boxes"] = shown["boxes"][:BOXES]
    found: dict[str, Any] = {name: values for name, values in shown.items() if values}
    if found.get("boxes") and is_size(size):
        found["size"] = size
    return found


def questions_with_yes(evidence: dict[str, Any]) -> list[list[Any]]:
    """Take the short forms out of the evidence: one question or several, and the probability of "yes" to each."""
    for name in ("questions", "question"):
        asked: Any = evidence.get(name)
        yes: Any = evidence.get("yes")
        if name == "question":
            asked, yes = [asked], [yes]
        if all_of(asked, lambda one: isinstance(one, str)) and all_of(yes, is_number) and len(asked) == len(yes):
            del evidence[name], evidence["yes"]
            return [[one, "yes", rounded(probability), ""] for one, probability in zip(asked, yes, strict=True)]
    return []


def row_of_box(box: Mapping[str, Any]) -> list[Any]:
    confidence = box.get("confidence")
    return [str(box.get("label", "")), rounded(confidence) if is_number(confidence) else None, *map(rounded, box["box"])]


def row_of_question(asked: Mapping[str, Any]) -> list[Any]:
    probability = next((asked[name] for name in ("probability", "yes") if is_number(asked.get(name))), None)
    more = {name: value for name, value in asked.items() if name not in ("question", "answer", "probability", "yes")}
    answer = in_words(asked["answer"]) if "answer" in asked else "yes"
    return [asked["question"], answer[:CHARACTERS], rounded(probability), in_words(more)[:CHARACTERS] if more else ""]


def all_of(value: Any, fits: Any) -> bool:
    """Whether this is a list of such things, with one at least."""
    return isinstance(value, list) and bool(value) and all(map(fits, value))


def is_box(value: Any) -> bool:
    return isinstance(value, dict) and all_of(value.get("box"), is_number) and len(value["box"]) == 4


def is_question(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("question"), str)


def is_size(value: Any) -> bool:
    return all_of(value, is_number) and len(value) == 2 and min(value) > 0


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def rounded(value: float | int | None) -> float | int | None:
    """Four decimals, whole numbers without any."""
    if value is None:
        return None
    short = round(value, 4)
    return int(short) if short == int(short) else short


def in_words(value: Any) -> str:
    """A JSON value as a person reads it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if is_number(value):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {in_words(one)}" for name, one in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "; ".join(map(in_words, value)) or "none"
    return str(value)
