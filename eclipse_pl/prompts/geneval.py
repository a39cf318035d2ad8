"""GenEval: its prompts, and what an image of each must show, from ``evaluation_metadata.jsonl``.

{"tag": "counting", "include": [{"class": "clock", "count": 2}], "exclude": [{"class": "clock", "count": 3}],
 "prompt": "a photo of two clocks"}
{"tag": "position", "include": [{"class": "dog", "count": 1}, {"class": "cat", "count": 1, "position": ["left of", 0]}], ...}
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eclipse_pl.prompts.parser import Parser
from eclipse_pl.prompts.parsing import parse_all
from eclipse_pl.prompts.prompt import Prompt, PromptSet, Required
from eclipse_pl.prompts.prompt_lines import prompt_problem, read_lines

TAGS = {"single_object": 80, "two_object": 99, "counting": 80, "colors": 94, "position": 100, "color_attr": 100}
"""The categories and the number of prompts of each upstream: 553 in all."""
POSITIONS = ("left of", "right of", "above", "below")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
METADATA_NAME = "evaluation_metadata.jsonl"
GRAMMAR = "GenEval grammar"
"""Version of the rule by which `phrases_of` finds noun phrases."""
SENTENCE = re.compile(rf"(a photo) of (.+?)(?: (?:and|{'|'.join(POSITIONS)}) (.+))?")


def geneval(path: Path, parser: Parser | None = None, categories: Sequence[str] = tuple(TAGS)) -> PromptSet:
    """Return the prompts of the tags in ``categories``.

    The id is the tag and the number of the line from 0, which names the prompt's folder in GenEval's own layout:
    ``counting/0182`` is ``00182``. A prompt without a noun phrase stays in the set and is listed in ``failed``.

    Args:
        path: The metadata file.
        parser: What parses the prompts; None for GenEval's own grammar (`phrases_of`).
        categories: The tags to read.

    Raises:
        ValueError: A tag is unknown, the file is missing, or a line has another form than above; the error names the line.
    """
    if unknown := [category for category in categories if category not in TAGS]:
        raise ValueError(f"GenEval has no category {unknown[0]!r}; its categories are {', '.join(TAGS)}.")
    lines = read_lines(path)
    prompts: list[Prompt] = []
    for number, line in lines:
        try:
            prompts.append(_prompt(number, json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{path}, line {number + 1}, is not a line of GenEval's metadata: {reason}.") from error
    kept = [prompt for prompt in prompts if prompt.category in categories]
    texts = [prompt.text for prompt in kept]
    if parser is None:
        version, phrases = GRAMMAR, [phrases_of(text) for text in texts]
    else:
        parsed = parse_all(path, texts, parser)
        version, phrases = parsed.parser, [parse.phrases for parse in parsed.parses]
    found = tuple(replace(prompt, phrases=of_prompt) for prompt, of_prompt in zip(kept, phrases, strict=True))
    failed = tuple((prompt.id, f"{version} finds no noun phrase in {prompt.text!r}") for prompt in found if not prompt.phrases)
    return PromptSet("GenEval", found, version, failed, tuple(TAGS))


def phrases_of(text: str) -> tuple[str, ...]:
    """Return the noun phrases of one of GenEval's sentences, such as "a photo of a red kite and a sink".

    These sentences join at most two objects, by "and" or by a position. Any other text has no phrase.
    """
    found = SENTENCE.fullmatch(text)
    return tuple(phrase for phrase in found.groups() if phrase) if found else ()


def _prompt(number: int, row: dict[str, Any]) -> Prompt:
    tag, text = row["tag"], row["prompt"]
    if tag not in TAGS:
        raise ValueError(f"its tag is {tag!r}; the tags are {', '.join(TAGS)}")
    if not isinstance(text, str) or not text.strip():
        raise ValueError("its prompt is empty")
    if problem := prompt_problem(text):
        raise ValueError(f"its prompt {problem}")
    required = tuple(map(_required, row["include"]))
    for i, entry in enumerate(required):
        if entry.position is not None and not 0 <= entry.position[1] < i:
            raise ValueError(
                f"entry {i} of include is positioned relative to entry {entry.position[1]}, which is not before it"
            )
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
