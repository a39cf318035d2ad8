from __future__ import annotations

from eclipse_pl.prompts.prompt import PromptSet
from eclipse_pl.prompts.source import PromptSource
from eclipse_pl.world.captions import require_detail
from eclipse_pl.world.prompts import COMPOSITIONS, prompt_set
from eclipse_pl.world.scenes import CATEGORIES


class WorldPrompts(PromptSource):
    """Captions of the world's test scenes, by category and composition.

    Args:
        per_category: The number of prompts of each category and composition. A smaller set lies inside a larger one.
        categories: The categories; null for all.
        compositions: ``seen`` or ``unseen``; null for both.
        seed: The seed of the scenes that they describe.
        detail: The detail of the captions; below 1 for vague captions of the same scenes (`captions.describe`).
    """

    def __init__(
        self,
        per_category: int = 40,
        categories: list[str] | None = None,
        compositions: list[str] | None = None,
        seed: int = 0,
        detail: float = 1.0,
    ) -> None:
        require_detail("prompts.detail", detail)
        self.per_category, self.seed, self.detail = per_category, seed, detail
        self.categories, self.compositions = categories or list(CATEGORIES), compositions or list(COMPOSITIONS)

    def load(self) -> PromptSet:
        return prompt_set(self.per_category, self.categories, self.compositions, self.seed, self.detail)
