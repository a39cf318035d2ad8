"""The world's prompts: captions of test scenes, by category and composition."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from eclipse_pl.prompts.prompt import Prompt, PromptSet, Relation, Required
from eclipse_pl.world.captions import Phrase, describe, parse, require_detail
from eclipse_pl.world.scenes import CATEGORIES, Kind, Scene, draw_scene
from eclipse_pl.world.splits import PROMPTS, names_held_out_pair

COMPOSITIONS = ("seen", "unseen")
MOST_CAPTIONS = 10_000
"""Captions of a scene that are tried for a vague prompt."""
_DETAIL = re.compile(r"detail_([0-9.e-]+)/")


def prompt_set(
    n: int,
    categories: Sequence[str] = CATEGORIES,
    compositions: Sequence[str] = COMPOSITIONS,
    seed: int = 0,
    detail: float = 1.0,
) -> PromptSet:
    """Return ``n`` prompts of each category and composition.

    ``unseen`` prompts name a colour-shape pair that no training scene has. Within a category and composition, the first ``n``
    prompts are the same for every larger number, and no two prompts are of scenes with the same objects.

    With a detail below 1 the prompts are vague captions of the same scenes, and each still names what its category and
    composition are about. Two of them may have the same text.

    Raises:
        ValueError: The world has no such category or composition, or no caption of this detail names what they are about.
    """
    require_detail("detail", detail)
    for value, valid in (*((c, CATEGORIES) for c in categories), *((c, COMPOSITIONS) for c in compositions)):
        if value not in valid:
            raise ValueError(f"{value!r} is not one of the world's {', '.join(valid)}.")
    prefix = "" if detail == 1 else f"detail_{float(detail)}/"
    prompts = [
        world_prompt(f"{prefix}{category}/{composition}/{i:04d}", category, caption, composition)
        for category in categories
        for composition in compositions
        for i, scene in enumerate(prompt_scenes(category, composition, n, seed))
        for caption in [_caption(scene, i, detail)]
    ]
    return PromptSet("world", tuple(prompts), parser="world grammar", of_suite=CATEGORIES)


def detail_of(prompt: Prompt) -> float:
    """Return the detail of a prompt of `prompt_set`, which is part of its id; 1 for all other prompts."""
    return _detail(prompt.id)


def _detail(id: str) -> float:
    found = _DETAIL.match(id)
    return float(found[1]) if found else 1.0


def _caption(scene: Scene, seed: int, detail: float) -> str:
    """Return the first caption of the scene at this detail that names what its category and composition are about."""
    for number in range(MOST_CAPTIONS):
        caption = describe(scene, seed, detail, number)
        described = parse(caption, vague=detail < 1)
        about = {
            "colour": any(phrase.colour for phrase in described.phrases),
            "texture": any(phrase.texture for phrase in described.phrases),
            "spatial": described.relation is not None,
        }
        if about.get(scene.category, True) and (not scene.unseen or names_held_out_pair(caption)):
            return caption
    raise ValueError(
        f"Captions of detail {detail} are too vague for prompts of category {scene.category} and "
        f"{'unseen' if scene.unseen else 'seen'} compositions. Choose a detail nearer to 1, or other categories and "
        "compositions."
    )


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
    """Return a caption of the world as a prompt with all that scorers need. The id tells whether it is vague (`detail_of`).

    Raises:
        ValueError: The text is not a caption of the world.
    """
    described = parse(text, vague=_detail(id) < 1)
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
    return f"{phrase.colour} {phrase.shape}" if phrase.colour else phrase.shape


@cache
def _scenes(category: str, composition: str, n: int, seed: int) -> list[Scene]:
    return prompt_scenes(category, composition, n, seed)


def scene_of(prompt: Prompt, seed: int = 0) -> Scene:
    """Return the scene that a prompt of `prompt_set` describes.

    Raises:
        ValueError: The prompt is not one of `prompt_set` with this seed.
    """
    detail = detail_of(prompt)
    category, _, rest = _DETAIL.sub("", prompt.id, count=1).partition("/")
    composition, _, number = rest.partition("/")
    if category not in CATEGORIES or composition not in COMPOSITIONS or not number.isdigit():
        raise ValueError(f"Prompt {prompt.id} is not one of the world's own prompts, so its true image is not known.")
    # rounded up, so that few lists are cached: a longer list begins with the shorter one
    scene = _scenes(category, composition, (int(number) // 64 + 1) * 64, seed)[int(number)]
    if (caption := _caption(scene, int(number), detail)) != prompt.text:
        raise ValueError(
            f"Prompt {prompt.id} is {prompt.text!r}, but with prompt_seed {seed} it would be {caption!r}: set prompt_seed to "
            "the seed of the prompts."
        )
    return scene
