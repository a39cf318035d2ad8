"""GenEval 2: its prompts and their published questions, from ``geneval2_data.jsonl``.

{"prompt": "two red kites behind a sink", "atom_count": 4, "vqa_list": [["How many kites are in the image?", "two"], ...],
 "skills": ["count", ...]}
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eclipse_pl.formats.text_table import read_json_lines
from eclipse_pl.prompts.parser import Parser
from eclipse_pl.prompts.parsing import with_phrases
from eclipse_pl.prompts.prompt import Prompt, PromptSet, Question
from eclipse_pl.prompts.prompt_lines import prompt_problem, require_file

GENEVAL2_NAME = "geneval2_data.jsonl"
CATEGORY = "geneval2"


def geneval2(path: Path, parser: Parser | None = None, categories: Sequence[str] | None = None) -> PromptSet:
    """Return the prompts, in the file's order, in one category. The subset is the number of atoms: ``atoms_03``.

    Args:
        path: The file.
        parser: What finds the noun phrases, for scorers that ask about them. None finds none.
        categories: None, or ``geneval2`` alone.

    Raises:
        ValueError: The file is missing, a line has another form than above (the error names it), or there is no such category.
    """
    if unknown := [category for category in categories or () if category != CATEGORY]:
        raise ValueError(f"GenEval 2 has no category {unknown[0]!r}; all its prompts are of {CATEGORY}.")
    require_file(path)
    prompts = []
    for number, (line, value) in enumerate(read_json_lines(path)):
        try:
            prompts.append(_prompt(number, value))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{path}, line {line}, is not a line of GenEval 2: {reason}.") from error
    if not prompts:
        raise ValueError(f"{path} has no prompt.")
    phrased = with_phrases(path, prompts, parser)
    return PromptSet("GenEval 2", phrased.prompts, phrased.parser, phrased.failed, (CATEGORY,))


def _prompt(number: int, row: dict[str, Any]) -> Prompt:
    text, pairs, skills = " ".join(row["prompt"].split()), row["vqa_list"], row["skills"]
    if problem := prompt_problem(text) if text else "is empty":
        raise ValueError(f"its prompt {problem}")
    if len(pairs) != len(skills) or not pairs:
        raise ValueError(f"it has {len(pairs)} questions and {len(skills)} skills")
    questions = [
        Question(str(asked), str(skill), answer=str(answer).strip().lower())
        for (asked, answer), skill in zip(pairs, skills, strict=True)
    ]
    atoms = int(row["atom_count"])
    return Prompt(f"{CATEGORY}/{number:04d}", CATEGORY, text, f"atoms_{atoms:02d}", questions=tuple(questions))
