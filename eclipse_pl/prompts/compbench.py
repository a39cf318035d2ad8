"""T2I-CompBench and T2I-CompBench++: the validation prompts of eight categories, from a folder with upstream's file names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from eclipse_pl.prompts.parser import Parse, Parser
from eclipse_pl.prompts.parsing import named, parse_all
from eclipse_pl.prompts.prompt import Prompt, PromptSet
from eclipse_pl.prompts.prompt_lines import read_lines
from eclipse_pl.prompts.templates import RELATIONS_2D, RELATIONS_3D, adjectives, counts, relation

CATEGORIES = ("color", "shape", "texture", "spatial", "3d_spatial", "numeracy", "non_spatial", "complex")
"""In the order of T2I-CompBench++'s tables."""
ATTRIBUTES = ("color", "shape", "texture")
ASKED_BY_PHRASE = (*ATTRIBUTES, "complex")
"""Categories whose score asks about every noun phrase. A prompt without one cannot be scored."""
COMPLEX_SUBSETS = ("spatial", "action", "spatialaction")
NOUNS_NAME = "new_objects.txt"


def file_name(category: str, subset: str = "") -> str:
    """Return upstream's name of the file of a category's validation prompts, or of one of its subsets."""
    return f"{category}_val{'_' * bool(subset)}{subset}.txt"


FILES = (*map(file_name, CATEGORIES), *(file_name("complex", subset) for subset in COMPLEX_SUBSETS), NOUNS_NAME)
OPTIONAL_FILES = tuple(file_name(category, subset) for category in ATTRIBUTES for subset in ("seen", "unseen"))
LINES = {
    **{file_name(category): 300 for category in CATEGORIES},
    **{file_name("complex", subset): n for subset, n in zip(COMPLEX_SUBSETS, (58, 212, 30), strict=True)},
    **{file_name(category, subset): n for category in ATTRIBUTES for subset, n in (("seen", 200), ("unseen", 100))},
    NOUNS_NAME: 101,
}
"""Number of prompts (nouns) in each file, in every version that upstream published."""


def compbench(folder: Path, parser: Parser | None = None, categories: Sequence[str] = CATEGORIES) -> PromptSet:
    """Return the prompts of the ``categories``, in upstream's order.

    The id of a prompt is its category and the number of its line from 0: images of ``color/0007`` are 70 to 79 in
    T2I-CompBench's layout. The subsets of complex are ``spatial``, ``action`` and ``spatialaction``. Those of color, shape and
    texture are ``seen`` and ``unseen``, if their files exist; the subset is "" for a prompt that neither lists (upstream
    changed five of color after the split).

    Args:
        folder: The folder of upstream's files.
        parser: What parses the prompts; see `parse_all` for None.
        categories: The categories to read.

    Raises:
        ValueError: A category is unknown, a file is missing, or a prompt lacks what its category is scored by.
    """
    if unknown := [category for category in categories if category not in CATEGORIES]:
        raise ValueError(f"T2I-CompBench has no category {unknown[0]!r}; its categories are {', '.join(CATEGORIES)}.")
    prompts: list[Prompt] = []
    problems: list[str] = []
    parsers: set[str] = set()
    for category in (category for category in CATEGORIES if category in categories):
        path = folder / file_name(category)
        lines = read_lines(path)
        subsets = _subsets(folder, category)
        nouns = read_nouns(folder / NOUNS_NAME) if category == "numeracy" else {}
        parsed = parse_all(path, [text for _, text in lines], parser)
        parsers.update(parsed.parsers)
        for (line, text), parse in zip(lines, parsed.parses, strict=True):
            subset = subsets.get(_joined_by(text), "")
            prompt = Prompt(f"{category}/{line:04d}", category, text, subset, parse.phrases)
            try:
                prompts.append(_with_needs(prompt, parse, nouns))
            except ValueError as error:
                problems.append(f"{path.name}, line {line + 1}, {text!r}: {error}")
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError(
            f"{len(problems)} of {len(problems) + len(prompts)} prompts in {folder} cannot be read: {'; '.join(problems[:3])}"
            f"{more}. Write them in the category's pattern, or load them as plain prompts (suite file)."
        )
    return PromptSet("T2I-CompBench", tuple(prompts), named(parsers), of_suite=CATEGORIES)


def read_nouns(path: Path) -> dict[str, str]:
    """Return the numeracy score's table of nouns (``apple - apples`` a line) as {singular or plural: singular}.

    Raises:
        ValueError: The file is missing, or a line has another form.
    """
    table: dict[str, str] = {}
    for number, line in read_lines(path):
        singular, dash, plural = (part.strip() for part in line.lower().partition(" - "))
        if not (singular and dash and plural):
            raise ValueError(f"{path}, line {number + 1}, is {line!r}; a line of the table is 'singular - plural'.")
        table[singular] = table[plural] = singular
    return table


def _with_needs(prompt: Prompt, parse: Parse, nouns: dict[str, str]) -> Prompt:
    """Return the prompt with what its category is scored by.

    Raises:
        ValueError: The text does not have it.
    """
    if prompt.category in ASKED_BY_PHRASE and not prompt.phrases:
        raise ValueError("it has no noun phrase")
    if prompt.category == "numeracy":
        return replace(prompt, required=counts(prompt.text, nouns))
    if prompt.category == "complex":
        if not prompt.subset:
            raise ValueError(f"none of {', '.join(file_name('complex', subset) for subset in COMPLEX_SUBSETS)} lists it")
        prompt = replace(prompt, adjectives=adjectives(parse))
    names = RELATIONS_3D if prompt.category == "3d_spatial" else RELATIONS_2D
    if prompt.category in ("spatial", "3d_spatial") or prompt.subset in ("spatial", "spatialaction"):
        prompt = replace(prompt, relation=relation(parse, names, nearest=prompt.category == "complex"))
        # upstream lists one prompt as spatialaction whose relation ("below") its score does not know
        if prompt.relation is None and prompt.subset != "spatialaction":
            raise ValueError(f"it names no relation; the relations are {', '.join(names)}")
    return prompt


def _subsets(folder: Path, category: str) -> dict[str, str]:
    """Return {text by which prompts are joined: subset}. The first file that lists a text counts, as upstream."""
    names = COMPLEX_SUBSETS if category == "complex" else ("seen", "unseen") if category in ATTRIBUTES else ()
    found: dict[str, str] = {}
    for subset in names:
        path = folder / file_name(category, subset)
        if category == "complex" or path.is_file():
            for _, text in read_lines(path):
                found.setdefault(_joined_by(text), subset)
    return found


def _joined_by(text: str) -> str:
    """Return the text in lower case up to the first full stop, by which upstream finds the subset of a complex prompt."""
    return text.lower().split(".")[0].strip()
