"""`load_prompts`: a prompt set of a suite, from a folder or a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eclipse_pl.prompts.compbench import CATEGORIES, compbench
from eclipse_pl.prompts.genai_bench import PROMPTS_NAME, SKILLS_NAME, genai_bench
from eclipse_pl.prompts.geneval import METADATA_NAME, TAGS, geneval
from eclipse_pl.prompts.geneval2 import GENEVAL2_NAME, geneval2
from eclipse_pl.prompts.parser import Parser
from eclipse_pl.prompts.prompt import PromptSet
from eclipse_pl.prompts.prompt_table import prompt_table
from eclipse_pl.prompts.propositions import DPG, DSG, propositions
from eclipse_pl.prompts.record import PromptsRecord
from eclipse_pl.prompts.subsets import stratified

FILES = {
    "geneval": METADATA_NAME, "dpg": DPG.file, "dsg": DSG.file, "geneval2": GENEVAL2_NAME, "genai_bench": PROMPTS_NAME
}  # fmt: skip
"""The file of a folder that holds the prompts of a suite."""
BESIDE = {"genai_bench": SKILLS_NAME}
"""A further file that a suite reads in the folder of that file."""
SUITES = ("compbench", *FILES, "file")


def load_prompts(
    source: str | Path,
    suite: str,
    categories: Sequence[str] | None = None,
    per_category: int | None = None,
    seed: int = 0,
    parser: Parser | None = None,
) -> PromptSet:
    """Read the prompts of a suite.

    Args:
        source: The folder that `python -m data_prep prompts` made, or upstream's own: a folder (T2I-CompBench), a folder with
            the suite's file (`FILES`) or that file (the others), any file of prompts ('file').
        suite: ``compbench``, ``geneval``, ``dpg``, ``dsg``, ``geneval2``, ``genai_bench`` or file.
        categories: The categories to read; all if None.
        per_category: The number of prompts of each category; all if None. The choice is stratified and depends only on the
            seed. 8 to 10 are enough for a first impression.
        seed: The seed of that choice.
        parser: What finds the noun phrases in all prompts. If None, GenEval's prompts are parsed by their own grammar, the
            parses of T2I-CompBench's come with the package, spaCy parses the prompts of a file, and the suites that have
            questions, and GenAI-Bench, get no phrases.

    Raises:
        ValueError: The suite or a category does not exist, or the categories are empty; a file is missing, is not of the
            suite, or has changed since it was downloaded; a prompt of T2I-CompBench lacks what its category is scored by; or
            a prompt needs spaCy, and spaCy or its model is not installed.
    """
    path = Path(source).expanduser()
    whole = path.is_dir()
    folder = path if whole else path.parent
    record = PromptsRecord.load(folder)
    if suite not in SUITES:
        raise ValueError(f"There is no suite {suite!r}; the suites are {', '.join(SUITES)}.")
    if suite == "file" and path.is_dir() and record is not None and len(record.files) == 1:
        path = folder / next(iter(record.files))
    if suite in FILES and path.is_dir():
        path = folder / FILES[suite]
    if suite == "compbench" and not path.is_dir():
        raise ValueError(
            f"There is no folder {path}. `python -m data_prep prompts --suite compbench --out {path}` downloads the prompts."
        )
    if categories is not None and not categories:
        raise ValueError("categories is empty, so no prompt would be read. Name one or more, or leave it out (null) for all.")
    if record is not None:
        if whole and record.suite != suite:
            raise ValueError(f"{folder} holds prompts of the suite {record.suite!r}, not {suite!r}.")
        record.require(folder, [name for name in record.files if whole or name in (path.name, BESIDE.get(suite))])
    if suite == "compbench":
        found = compbench(path, parser, CATEGORIES if categories is None else categories)
    elif suite == "geneval":
        found = geneval(path, parser, tuple(TAGS) if categories is None else categories)
    elif suite in ("dpg", "dsg"):
        found = propositions(path, DPG if suite == "dpg" else DSG, parser, categories)
    elif suite == "geneval2":
        found = geneval2(path, parser, categories)
    elif suite == "genai_bench":
        found = genai_bench(path, parser, categories)
    else:
        found = prompt_table(path, parser, categories)
    return found if per_category is None else stratified(found, per_category, seed)
