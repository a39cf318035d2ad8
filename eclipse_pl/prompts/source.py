"""Where a benchmark's prompts come from, as a part of a YAML."""

from __future__ import annotations

from abc import ABC, abstractmethod

from eclipse_pl.prompts.load import load_prompts
from eclipse_pl.prompts.parser import Parser
from eclipse_pl.prompts.prompt import PromptSet


class PromptSource(ABC):
    """Loads a prompt set."""

    @abstractmethod
    def load(self) -> PromptSet:
        """Return the prompts, the same ones at every call."""


class PromptFiles(PromptSource):
    """T2I-CompBench, GenEval, DPG-Bench, DSG-1k, GenEval 2, GenAI-Bench, or any file of prompts; see `load_prompts`.

    Args:
        folder: The folder that ``python -m data_prep prompts`` made, upstream's own folder, or a file.
        suite: ``compbench``, ``geneval``, ``dpg``, ``dsg``, ``geneval2``, ``genai_bench`` or file.
        categories: The categories to read; null for all.
        per_category: The number of prompts of each category, a fixed stratified choice; null for all.
        parser: What finds the noun phrases. Null takes the parses of T2I-CompBench's prompts that come with the package,
            GenEval's own grammar, nothing for the suites with questions of their own, and spaCy for other prompts.
            eclipse_pl.prompts.parser.NoParser finds none: for scorers that need none.
    """

    def __init__(
        self,
        folder: str,
        suite: str = "compbench",
        categories: list[str] | None = None,
        per_category: int | None = None,
        parser: Parser | None = None,
    ) -> None:
        self.folder, self.suite, self.categories, self.per_category = folder, suite, categories, per_category
        self.parser = parser

    def load(self) -> PromptSet:
        return load_prompts(self.folder, self.suite, self.categories, self.per_category, parser=self.parser)
