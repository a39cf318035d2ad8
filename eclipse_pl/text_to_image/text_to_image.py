from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from PIL import Image

from eclipse_pl.prompts.prompt import Prompt


class TextToImage(ABC):
    """A text-to-image model that a benchmark can test: a prior with its decoder, or a whole pipeline."""

    trained_steps: int | None = None
    """Training steps behind the weights of a run's checkpoint; None where that is not known."""

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Everything except prompt and seed that its images depend on, as JSON values. It keeps images of models apart."""

    @abstractmethod
    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Image.Image]:
        """Return one image per prompt, in order. Each image depends on its prompt and seed alone."""

    def prepare(self, prompts: Sequence[Prompt]) -> None:  # noqa: B027 (optional)
        """Read the prompts that this process will generate, before it generates the first one."""

    def count_cut(self, prompts: Sequence[Prompt]) -> int | None:
        """Return how many prompts are longer than every text encoder of the model reads. None where that is not known."""
        return None

    @abstractmethod
    def require_ready(self) -> None:
        """Raise ValueError for errors that show before large files are loaded, such as parts of two spaces."""

    def close(self) -> None:  # noqa: B027 (optional)
        """Free the loaded networks. The next call of `generate` loads them again."""
