from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from PIL import Image

from eclipse_pl.prompts.prompt import Prompt


class Painter(ABC):
    """What a benchmark puts to the test: a prior with its decoder, or a whole text-to-image pipeline."""

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """All that its pictures depend on, beside prompt and seed, in words of JSON. Pictures of two are never mixed."""

    @abstractmethod
    def paint(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Image.Image]:
        """One picture a prompt, in order, each a function of its prompt and seed."""

    def prepare(self, prompts: Sequence[Prompt]) -> None:  # noqa: B027 (not every painter has something to read before)
        """Told once what this process will paint, before it paints."""

    @abstractmethod
    def require_ready(self) -> None:
        """Raise ValueError for what can be known to be wrong before anything large is loaded, such as parts of two spaces."""

    def close(self) -> None:  # noqa: B027 (not every painter has something to free)
        """Free what was loaded; the next call of `paint` loads it again."""
