"""Image and prompt -> number."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from eclipse_pl.prompts.prompt import Prompt


@dataclass(frozen=True)
class Score:
    """What a scorer gives one image."""

    value: float
    """NaN where the image could not be scored; `failure` says why."""
    evidence: dict[str, Any] = field(default_factory=dict)
    """Why: boxes, questions and probabilities. Plain numbers, strings, lists and dicts, because it is written as JSON."""

    @classmethod
    def failed(cls, reason: str) -> Score:
        """The score of an image that could not be scored: the run goes on, and its row is counted as failed."""
        return cls(math.nan, {"failed": reason})

    @property
    def failure(self) -> str | None:
        """Why the image could not be scored; None where it was."""
        return self.evidence.get("failed")


class Scorer(ABC):
    """A scorer."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Stands beside every number: scorer and what a reader must know of it, ``blip_vqa@480``."""

    @property
    @abstractmethod
    def version(self) -> str:
        """Weights and every option on which a number depends: numbers of unequal versions are never mixed."""

    def covers(self, prompt: Prompt) -> bool:
        """Whether its protocol asks for a score of such a prompt at all; no failure where it does not."""
        return True

    def require_ready(self) -> None:  # noqa: B027 (a scorer without files has nothing to miss)
        """Raise ValueError for what can be known to be wrong before any image is generated, such as another model class."""

    @abstractmethod
    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        """One score an image, in order.

        An image that cannot be read and a prompt that lacks what the scorer asks for give `Score.failed`, never an error.
        """

    def close(self) -> None:  # noqa: B027 (a scorer without networks has nothing to free)
        """Free what was loaded; the next call of `score` loads it again."""
