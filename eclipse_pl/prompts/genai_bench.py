"""GenAI-Bench: its prompts from ``genai_image.json`` or a part of it, the basic and advanced ones by ``genai_skills.json``.

{"00012": {"id": "00012", "prompt": "an ice castle in a blizzard", ...}, ...}
{"counting": [12, 40, ...], ..., "basic": [...], "advanced": [...]}
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eclipse_pl.formats.text_file import read_text
from eclipse_pl.prompts.parser import Parser
from eclipse_pl.prompts.parsing import with_phrases
from eclipse_pl.prompts.prompt import Prompt, PromptSet
from eclipse_pl.prompts.prompt_lines import prompt_problem, require_file

PROMPTS_NAME, SKILLS_NAME = "genai_image.json", "genai_skills.json"
CATEGORIES = ("basic", "advanced", "untagged")
"""The suite's two groups of skills, and its few prompts of neither."""


def genai_bench(path: Path, parser: Parser | None = None, categories: Sequence[str] | None = None) -> PromptSet:
    """Return the prompts of the ``categories``, in the file's order. The id is the category and the suite's number.

    The suite has no questions: it is scored by VQAScore (`eclipse_pl.scorers.vlm.VqaScorer`).

    Args:
        path: The file of prompts. ``genai_skills.json`` lies beside it.
        parser: What finds the noun phrases, for scorers that ask about them. None finds none.
        categories: The categories to read; all if None.

    Raises:
        ValueError: A file is missing or has another form, or there is no such category.
    """
    if unknown := [category for category in categories or () if category not in CATEGORIES]:
        raise ValueError(f"GenAI-Bench has no category {unknown[0]!r}; its categories are {', '.join(CATEGORIES)}.")
    entries, skills = _object(path), _object(path.with_name(SKILLS_NAME))
    prompts = []
    try:
        groups = {int(number): group for group in CATEGORIES[:2] for number in skills[group]}
        for key, entry in entries.items():
            text, group = " ".join(entry["prompt"].split()), groups.get(int(key), CATEGORIES[2])
            if problem := prompt_problem(text) if text else "is empty":
                raise ValueError(f"the prompt {key} {problem}")
            prompts.append(Prompt(f"{group}/{int(key):05d}", group, text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path} and {SKILLS_NAME} are not files of GenAI-Bench: {reason}.") from error
    phrased = with_phrases(path, [one for one in prompts if one.category in (categories or CATEGORIES)], parser)
    return PromptSet("GenAI-Bench", phrased.prompts, phrased.parser, phrased.failed, CATEGORIES)


def _object(path: Path) -> dict[str, Any]:
    require_file(path)
    try:
        content = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({error}).") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} is not a file of GenAI-Bench: a JSON object with an entry for each prompt or skill.")
    return content
