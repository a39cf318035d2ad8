"""The world's prompts: captions of test scenes, by category and composition."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from eclipse_pl.prompts.prompt import Prompt, PromptSet, Relation, Required
from eclipse_pl.world.captions import Phrase, describe, parse
from eclipse_pl.world.scenes import CATEGORIES, Kind, Scene, draw_scene
from eclipse_pl.world.splits import PROMPTS

COMPOSITIONS = ("seen", "unseen")


def prompt_set(
    n: int, categories: Sequence[str] = CATEGORIES, compositions: Sequence[str] = COMPOSITIONS, seed: int = 0
) -> PromptSet:
    """Return ``n`` prompts of each category and composition.

    ``unseen`` prompts have a colour-shape pair that no training scene has. Within a category and composition, the first ``n``
    prompts are the same for every larger number, and no two prompts have the same objects.

    Raises:
        ValueError: The world has no such category or composition.
    """
    for value, valid in (*((c, CATEGORIES) for c in categories), *((c, COMPOSITIONS) for c in compositions)):
        if value not in valid:
            raise ValueError(f"{value!r} is not one of the world's {', '.join(valid)}.")
    prompts = [
        world_prompt(f"{category}/{composition}/{i:04d}", category, describe(scene, i), composition)
        for category in categories
        for composition in compositions
        for i, scene in enumerate(prompt_scenes(category, composition, n, seed))
    ]
    return PromptSet("world", tuple(prompts), parser="world grammar")


def prompt_scenes(category: str, composition: str, n: int, seed: int = 0) -> list[Scene]:
    """Return the scenes that the prompts describe."""
    unseen, taken, scenes = composition == "unseen", set[frozenset[Kind]](), []
    for i in range(n):
        scene = draw_scene(
            category,
            (seed, PROMPTS, CATEGORIES.index(category), unseen, i),
            lambda s: s.split == "test" and s.unseen == unseen and frozenset(s.kinds) not in taken,
        )
        taken.add(frozenset(scene.kinds))
        scenes.append(scene)
    return scenes


def world_prompt(id: str, category: str, text: str, subset: str = "") -> Prompt:
    """Return a caption of the world as a prompt with all that scorers need.

    Raises:
        ValueError: The text is not a caption of the world.
    """
    described = parse(text)
    first, *others = (_kind(phrase) for phrase in described.phrases)
    return Prompt(
        id,
        category,
        text,
        subset,
        phrases=tuple(phrase.words(say_plain=False).split(" ", 1)[1] for phrase in described.phrases),
        relation=Relation(first, described.relation, others[0]) if described.relation else None,
        required=tuple(Required(phrase.shape, phrase.count, phrase.colour) for phrase in described.phrases),
    )


def _kind(phrase: Phrase) -> str:
    return f"{phrase.colour} {phrase.shape}"


@cache
def _scenes(category: str, composition: str, n: int, seed: int) -> list[Scene]:
    return prompt_scenes(category, composition, n, seed)


def scene_of(prompt: Prompt, seed: int = 0) -> Scene:
    """Return the scene that a prompt of `prompt_set` describes.

    Raises:
        ValueError: The prompt is not one of `prompt_set` with this seed.
    """
    category, _, rest = prompt.id.partition("/")
    composition, _, number = rest.partition("/")
    if category not in CATEGORIES or composition not in COMPOSITIONS or not number.isdigit():
        raise ValueError(f"Prompt {prompt.id} is not one of the world's own prompts, so its true image is not known.")
    # rounded up, so that few lists are cached: a longer list begins with the shorter one
    scene = _scenes(category, composition, (int(number) // 64 + 1) * 64, seed)[int(number)]
    if (caption := describe(scene, int(number))) != prompt.text:
        raise ValueError(
            f"Prompt {prompt.id} is {prompt.text!r}, but with prompt_seed {seed} it would be {caption!r}: set prompt_seed to "
            "the seed of the prompts."
        )
    return scene
