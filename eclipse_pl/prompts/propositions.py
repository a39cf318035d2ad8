"""DPG-Bench and DSG-1k: prompts with yes-or-no questions, each a row of a CSV in the format of the Davidsonian scene graph.

item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language
vrd_57,bench near trees,"bench, trees, near",3,"1,2",relation,spatial,"relation - spatial (bench, trees, near)",Is the ...
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eclipse_pl.formats.text_table import Row, read_csv
from eclipse_pl.prompts.parser import Parser
from eclipse_pl.prompts.parsing import with_phrases
from eclipse_pl.prompts.prompt import Prompt, PromptSet, Question
from eclipse_pl.prompts.prompt_lines import prompt_problem, require_file
from eclipse_pl.prompts.prompt_table import names_a_folder

COLUMNS = ("item_id", "text", "proposition_id", "dependency", "tuple", "question_natural_language")


@dataclass(frozen=True)
class QuestionSuite:
    """A suite in this format.

    Attributes:
        name: Its published name.
        file: The published name of its file.
        categories: {part of an item's id: category}, in the order in which they are looked for. Empty where the suite
            reports no categories of prompts.
    """

    name: str
    file: str
    categories: tuple[tuple[str, str], ...] = ()

    def category_of(self, item: str) -> str:
        return next((category for part, category in self.categories if part in item), self.name.partition("-")[0].lower())


DPG = QuestionSuite("DPG-Bench", "dpg_bench.csv")
DSG = QuestionSuite(
    "DSG-1k",
    "dsg-1k-anns.csv",
    (
        ("tifa", "tifa"),
        ("stanford", "paragraph"),
        ("localized", "paragraph"),
        ("countbench", "count"),
        ("vrd", "relation"),
        ("diffusion", "real_user"),
        ("midjourney", "real_user"),
        ("posescript", "pose"),
        ("whoops", "defying"),
        ("drawtext", "text"),
    ),
)
"""The categories are those of the paper's tables, by the source of the prompt (Cho et al., ICLR 2024)."""


def propositions(
    path: Path, suite: QuestionSuite, parser: Parser | None = None, categories: Sequence[str] | None = None
) -> PromptSet:
    """Return the prompts of the ``categories`` with their questions, in the file's order.

    The id of a prompt is its category and its ``item_id``, which names its image in DPG-Bench's own layout. Its text is that
    of its first row; white space between words becomes one blank. A prompt whose questions cannot be read (a dependency on a
    question that is not there) stays in the set without questions, and is listed in ``failed``.

    Args:
        path: The CSV.
        suite: `DPG` or `DSG`.
        parser: What finds the noun phrases, for scorers that ask about them. None finds none.
        categories: The categories to read; all if None.

    Raises:
        ValueError: The file is missing or lacks a column, a prompt has no text or an id that cannot name a file, or a
            category is not in it. The error names the line.
    """
    require_file(path)
    rows = [row for row in read_csv(path, COLUMNS) if any(cell.strip() for cell in row.cells.values())]
    if not rows:
        raise ValueError(f"{path} has no prompt.")
    if missing := [column for column in COLUMNS if column not in rows[0].cells]:
        raise ValueError(f"{path} is not a file of {suite.name}: it has no column {missing[0]!r}.")
    items: dict[str, list[Row]] = {}
    for row in rows:
        items.setdefault(row.cells["item_id"].strip(), []).append(row)
    prompts: list[Prompt] = []
    failed: list[tuple[str, str]] = []
    for item, of_item in items.items():
        text = " ".join(of_item[0].cells["text"].split())
        if problem := prompt_problem(text) if text else "has no text":
            raise ValueError(f"{path}, line {of_item[0].line}, {problem}.")
        if not item or not names_a_folder(item):
            raise ValueError(f"{path}, line {of_item[0].line}, has the item_id {item!r}, which cannot name an image file.")
        category = suite.category_of(item)
        questions: tuple[Question, ...] = ()
        try:
            questions = questions_of(of_item)
        except ValueError as error:
            failed.append((f"{category}/{item}", f"the questions of {category}/{item} cannot be read: {error}"))
        prompts.append(Prompt(f"{category}/{item}", category, text, questions=questions))
    found = list(dict.fromkeys(prompt.category for prompt in prompts))
    if unknown := [category for category in categories or () if category not in found]:
        raise ValueError(f"{suite.name} has no category {unknown[0]!r}; its categories are {', '.join(found)}.")
    kept = [prompt for prompt in prompts if categories is None or prompt.category in categories]
    phrased = with_phrases(path, kept, parser)
    known = {prompt.id for prompt in kept}
    failed = [*(one for one in failed if one[0] in known), *phrased.failed]
    return PromptSet(suite.name, phrased.prompts, phrased.parser, tuple(failed), (*found, *dict(suite.categories).values()))


def questions_of(rows: Sequence[Row]) -> tuple[Question, ...]:
    """Return the questions of one prompt, in the file's order.

    Raises:
        ValueError: A number is none or occurs twice, a question has no text, or depends on one that is not there.
    """
    numbers: dict[int, int] = {}
    for place, row in enumerate(rows):
        (number,) = _numbers(row, "proposition_id") or (0,)
        if number < 1 or number in numbers:
            raise ValueError(f"line {row.line} has the proposition_id {row.cells['proposition_id']!r}, a new number from 1")
        numbers[number] = place
    questions = []
    for row in rows:
        text = " ".join(row.cells["question_natural_language"].split())
        if not text:
            raise ValueError(f"line {row.line} has no question")
        parents = [number for number in _numbers(row, "dependency") if number]  # 0 is none
        if lost := [number for number in parents if number not in numbers]:
            raise ValueError(f"line {row.line} depends on question {lost[0]}, which the prompt does not have")
        kind = re.split(r"[-(]", row.cells["tuple"])[0].strip()
        questions.append(Question(text, kind, parents=tuple(numbers[number] for number in parents)))
    return tuple(questions)


def _numbers(row: Row, column: str) -> list[int]:
    cell = row.cells[column].strip()
    try:
        return [int(number) for number in cell.split(",")]
    except ValueError:
        raise ValueError(f"line {row.line} has {cell!r} in its column {column}, which holds whole numbers") from None
