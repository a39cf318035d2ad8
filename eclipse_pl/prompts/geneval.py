"""GenEval: what must be in an image of each of its prompts, from ``evaluation_metadata.jsonl``.

{"tag": "counting", "include": [{"class": "clock", "count": 2}], "exclude": [{"class": "clock", "count": 3}],
 "prompt": "a photo of two clocks"}
{"tag": "position", "include": [{"class": "dog", "count": 1}, {"class": "cat", "count": 1, "position": ["left of", 0]}], ...}
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eclipse_pl.prompts.parser import Parser
from eclipse_pl.prompts.prompt import Prompt, PromptSet, Required
from eclipse_pl.prompts.prompt_lines import no_prompt, read_all, read_lines

TAGS = {"single_object": 80, "two_object": 99, "counting": 80, "colors": 94, "position": 100, "color_attr": 100}
"""Categories, and how many prompts each has upstream: 553 in all."""
POSITIONS = ("left of", "right of", "above", "below")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
METADATA_NAME = "evaluation_metadata.jsonl"


def geneval(path: Path, parser: Parser, categories: Sequence[str] = tuple(TAGS)) -> PromptSet:
    """Prompts of the tags in ``categories``. The id is the tag and the number of the line from 0, which names the prompt's
    folder in GenEval's own layout: ``counting/0182`` is ``00182``. ValueError with the line for whatever is not as above."""
    if unknown := [category for category in categories if category not in TAGS]:
        raise ValueError(f"GenEval has no category {unknown[0]!r}; its categories are {', '.join(TAGS)}.")
    lines = read_lines(path)
    prompts: list[Prompt] = []
    for number, line in lines:
        try:
            prompts.append(_prompt(number, json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{path}, line {number + 1}, is no line of GenEval's metadata: {reason}.") from error
    kept = [prompt for prompt in prompts if prompt.category in categories]
    readings = read_all(path, [prompt.text for prompt in kept], parser)
    found = tuple(replace(prompt, phrases=reading.phrases) for prompt, reading in zip(kept, readings, strict=True))
    return PromptSet("GenEval", found, parser.version)


def _prompt(number: int, row: dict[str, Any]) -> Prompt:
    tag, text = row["tag"], row["prompt"]
    if tag not in TAGS:
        raise ValueError(f"its tag is {tag!r}; the tags are {', '.join(TAGS)}")
    if not isinstance(text, str) or not text.strip():
        raise ValueError("its prompt is empty")
    if problem := no_prompt(text):
        raise ValueError(f"its prompt {problem}")
    required = tuple(map(_required, row["include"]))
    for i, entry in enumerate(required):
        if entry.position is not None and not 0 <= entry.position[1] < i:
            raise ValueError(f"entry {i} of include stands in relation to entry {entry.position[1]}, which is not before it")
    excluded = tuple(map(_required, row.get("exclude", [])))
    return Prompt(f"{tag}/{number:04d}", tag, text, required=required, excluded=excluded)


def _required(entry: dict[str, Any]) -> Required:
    count, colour, position = entry["count"], entry.get("color"), entry.get("position")
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"its count is {count!r}, not a number from 1")
    if colour is not None and colour not in COLOURS:
        raise ValueError(f"its color is {colour!r}; the colours are {', '.join(COLOURS)}")
    if position is not None:
        relation, other = position
        if relation not in POSITIONS:
            raise ValueError(f"its position is {relation!r}; the positions are {', '.join(POSITIONS)}")
        position = (relation, int(other))
    return Required(str(entry["class"]), count, colour, position)
