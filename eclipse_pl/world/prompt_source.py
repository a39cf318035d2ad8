from __future__ import annotations

from collections.abc import Sequence

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

    Raises:
        ValueError: A number is out of its range, or the world has no such category or composition.
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
        for name, value, least in (("per_category", per_category, 1), ("seed", seed, 0)):
            if value < least:
                raise ValueError(f"prompts.{name} is {value}; it must be {least} or more.")
        self.per_category, self.seed, self.detail = per_category, seed, detail
        self.categories = _chosen("categories", categories, CATEGORIES)
        self.compositions = _chosen("compositions", compositions, COMPOSITIONS)

    def load(self) -> PromptSet:
        return prompt_set(self.per_category, self.categories, self.compositions, self.seed, self.detail)


def _chosen(option: str, names: Sequence[str] | None, valid: Sequence[str]) -> list[str]:
    """The names that are asked for; None asks for all."""
    if names is None:
        return list(valid)
    if not names:
        raise ValueError(f"prompts.{option} is []; name at least one of {', '.join(valid)}, or null for all.")
    for name in names:
        if name not in valid:
            raise ValueError(f"prompts.{option} has {name!r}, which the world does not have; choose of {', '.join(valid)}.")
        if list(names).count(name) > 1:
            raise ValueError(f"prompts.{option} has {name!r} twice; name each once, or null for all of {', '.join(valid)}.")
    return list(names)
