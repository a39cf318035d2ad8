from __future__ import annotations

from abc import ABC, abstractmethod

from eclipse_pl.prompts.load import load_prompts
from eclipse_pl.prompts.parser import Parser
from eclipse_pl.prompts.prompt import PromptSet


class PromptSource(ABC):
    """Where a benchmark's prompts come from, as a part of a YAML."""

    @abstractmethod
    def load(self) -> PromptSet:
        """The prompts; the same ones at every call."""


class PromptFiles(PromptSource):
    """T2I-CompBench, GenEval, or any file of prompts; see `load_prompts`.

    Args:
        folder: what ``python -m data_prep prompts`` made, upstream's own folder, or a file.
        suite: compbench, geneval or file.
        categories: those to read; null for all.
        per_category: so many prompts of each category, always the same and stratified; null for all.
        parser: what finds noun phrases, such as eclipse_pl.prompts.spacy_phrases.SpacyParser; null is our own grammar.
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
