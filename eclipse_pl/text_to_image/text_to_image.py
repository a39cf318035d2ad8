from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from PIL import Image

from eclipse_pl.prompts.prompt import Prompt


class TextToImage(ABC):
    """What a benchmark puts to the test: a prior with its decoder, or a whole text-to-image pipeline."""

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """All that its images depend on, beside prompt and seed, in words of JSON. Images of two are never mixed."""

    @abstractmethod
    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Image.Image]:
        """One image a prompt, in order, each a function of its prompt and seed."""

    def prepare(self, prompts: Sequence[Prompt]) -> None:  # noqa: B027 (not every text-to-image model has something to read before)
        """Told once what this process will generate, before it generates."""

    @abstractmethod
    def require_ready(self) -> None:
        """Raise ValueError for what can be known to be wrong before anything large is loaded, such as parts of two spaces."""

    def close(self) -> None:  # noqa: B027 (not every text-to-image model has something to free)
        """Free what was loaded; the next call of `generate` loads it again."""
