"""Prompt sets: captions of the test split by category and composition, as T2I-CompBench has them by category."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from hashlib import sha256

from eclipse_pl.world.captions import Description, describe, parse
from eclipse_pl.world.scenes import CATEGORIES, Kind, Scene, draw_scene
from eclipse_pl.world.splits import PROMPTS


@dataclass(frozen=True)
class Prompt:
    """A caption that was never trained on, and what must be in a picture of it."""

    id: str
    category: str
    composition: str
    text: str
    description: Description
    """What the text says, which is what a judge may ask for; the scene has more (places, sizes left unsaid)."""
    scene: Scene


def prompt_set(category: str, composition: str, n: int, seed: int = 0) -> list[Prompt]:
    """``n`` prompts, no two with the same objects; ``unseen`` ones hold a colour-shape pair that no training scene has."""
    if composition not in ("seen", "unseen"):
        raise ValueError(f"composition {composition!r} is neither 'seen' nor 'unseen'.")
    if category not in CATEGORIES:
        raise ValueError(f"There is no category {category!r} in the world. Its categories are {', '.join(CATEGORIES)}.")
    unseen, taken, prompts = composition == "unseen", set[frozenset[Kind]](), []
    for i in range(n):
        scene = draw_scene(
            category,
            (seed, PROMPTS, CATEGORIES.index(category), unseen, i),
            lambda s: s.split == "test" and s.unseen == unseen and frozenset(s.kinds) not in taken,
        )
        taken.add(frozenset(scene.kinds))
        text = describe(scene, i)
        prompts.append(Prompt(f"{category}/{composition}/{i:04d}", category, composition, text, parse(text), scene))
    return prompts


def prompts_sha256(prompts: list[Prompt]) -> str:
    """Names a set of prompts in a scorecard: equal exactly where ids, texts and truths are equal."""
    return sha256(json.dumps([asdict(prompt) for prompt in prompts], sort_keys=True).encode()).hexdigest()
