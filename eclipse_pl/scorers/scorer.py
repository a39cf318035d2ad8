"""Image and prompt -> number."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from eclipse_pl.prompts.prompt import Prompt

NOT_A_NUMBER = "the network's output is not a number; use precision bfloat16 or float32, and check its weights"


@dataclass(frozen=True)
class Score:
    """The score of one image. A value that is not a finite number makes it a failed score, whoever computed it."""

    value: float
    """NaN where the image could not be scored. `failure` gives the reason."""
    evidence: dict[str, Any] = field(default_factory=dict)
    """Boxes, questions and probabilities behind the value, as JSON values."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            object.__setattr__(self, "value", math.nan)
            if self.failure is None:  # the evidence has no numbers either, and JSON has no NaN
                object.__setattr__(self, "evidence", {"failed": NOT_A_NUMBER})

    @classmethod
    def failed(cls, reason: str) -> Score:
        """Return the score of an image that could not be scored. The run continues and counts its row as failed."""
        return cls(math.nan, {"failed": reason})

    @classmethod
    def unreadable(cls, image: str, error: Exception) -> Score:
        """Return the score of an image that could not be read. A benchmark that is run again scores it again."""
        return cls(math.nan, {"failed": f"{image} cannot be read ({error}).", "unreadable": True})

    @property
    def failure(self) -> str | None:
        """Reason why the image could not be scored, or None."""
        return self.evidence.get("failed")


Scores = dict[tuple[str, int], Score]
"""(prompt id, seed) -> score."""


class Scorer(ABC):
    """Scores images by their prompts."""

    one_image_a_prompt: bool = False
    """Whether it compares with another model's image of the prompt, so that a benchmark must have one image of each."""

    needs_reference: bool = False
    """Whether it compares with reference images by the prompts' ids, which the captions of a calibration do not have."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name in every table, with the option that a reader must know: ``blip_vqa@480``."""

    @property
    @abstractmethod
    def version(self) -> str:
        """Weights and every option that a score depends on. Scores of different versions are never mixed."""

    def covers(self, prompt: Prompt) -> bool:
        """Return whether the scorer's protocol scores such a prompt. Other prompts do not count as failed."""
        return True

    def missing(self, prompt: Prompt) -> str | None:
        """Name what the scorer needs and the prompt does not have ("noun phrases"), or return None."""
        return None

    def require_ready(self) -> None:  # noqa: B027 (optional)
        """Raise ValueError for errors that show before any image is generated, such as another model class."""

    def require_prompts(self, prompts: Sequence[Prompt], seed: int) -> None:  # noqa: B027 (optional)
        """Raise ValueError where the scorer lacks what one of the prompts needs, such as a reference image or depth.

        ``seed`` is the seed of the first image of every prompt.
        """

    @abstractmethod
    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt | str]) -> list[Score]:
        """Return one score per image, in order.

        An unreadable image and a prompt that lacks what the scorer needs give `Score.failed`, never an error.
        """

    def report(self, scores: Sequence[Score]) -> dict[str, Any]:
        """Return what a scorecard says of all scores together beside their means, as JSON values."""
        return {}

    def close(self) -> None:  # noqa: B027 (optional)
        """Free the loaded networks. The next call of `score` loads them again."""


def as_prompt(prompt: Prompt | str, number: int) -> Prompt:
    """A plain string as a prompt that was not parsed: for scorers that read the text alone."""
    return Prompt(f"prompt/{number:04d}", "", prompt) if isinstance(prompt, str) else prompt
