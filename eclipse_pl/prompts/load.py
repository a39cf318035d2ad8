"""Prompt sets by suite, from a folder or a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eclipse_pl.prompts.compbench import CATEGORIES, compbench
from eclipse_pl.prompts.geneval import METADATA_NAME, TAGS, geneval
from eclipse_pl.prompts.grammar import GrammarParser
from eclipse_pl.prompts.parser import Parser
from eclipse_pl.prompts.prompt import PromptSet
from eclipse_pl.prompts.prompt_table import prompt_table
from eclipse_pl.prompts.record import PromptsRecord
from eclipse_pl.prompts.subsets import stratified

SUITES = ("compbench", "geneval", "file")


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
        source: the folder that `python -m data_prep prompts` made, or upstream's own: a folder (T2I-CompBench), a folder with
            ``evaluation_metadata.jsonl`` or that file (GenEval), any file of prompts ('file').
        suite: compbench, geneval or file.
        categories: those to read; all where None.
        per_category: so many prompts of each category, always the same and stratified (8 to 10 for a quick look).
        seed: of that choice.
        parser: what finds noun phrases; our own grammar where None.

    ValueError for a suite or category that does not exist, for a file that is missing, is not of its suite, or is not the one
    that was downloaded, and for a prompt of T2I-CompBench that cannot be read.
    """
    path, parser = Path(source), parser or GrammarParser()
    folder = path if path.is_dir() else path.parent
    record = PromptsRecord.load(folder)
    if suite not in SUITES:
        raise ValueError(f"There is no suite {suite!r}; the suites are {', '.join(SUITES)}.")
    if suite == "file" and path.is_dir() and record is not None and len(record.files) == 1:
        path = folder / next(iter(record.files))
    if suite == "geneval" and path.is_dir():
        path = folder / METADATA_NAME
    if suite == "compbench" and not path.is_dir():
        raise ValueError(
            f"There is no folder {path}. `python -m data_prep prompts --suite compbench --out {path}` downloads the prompts."
        )
    if record is not None:
        if Path(source).is_dir() and record.suite != suite:
            raise ValueError(f"{folder} holds prompts of the suite {record.suite!r}, not {suite!r}.")
        record.require(folder, [name for name in record.files if path.is_dir() or name == path.name])
    if suite == "compbench":
        found = compbench(path, parser, CATEGORIES if categories is None else categories)
    elif suite == "geneval":
        found = geneval(path, parser, tuple(TAGS) if categories is None else categories)
    else:
        found = prompt_table(path, parser, categories)
    return found if per_category is None else stratified(found, per_category, seed)
