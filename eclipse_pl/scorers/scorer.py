from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from eclipse_pl.prompts.prompt import Prompt


@dataclass(frozen=True)
class Score:
    """What a judge says of one picture."""

    value: float
    evidence: dict[str, Any] = field(default_factory=dict)
    """Why: boxes, questions and probabilities. Plain numbers, strings, lists and dicts, because it is written as JSON."""


class Scorer(ABC):
    """A judge. Its ``name`` and ``version`` stand beside every number that it gives."""

    name: str
    version: str

    @abstractmethod
    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        """One score a picture, in order."""
