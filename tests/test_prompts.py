"""Prompt sets: balanced as asked, distinct, never captions of training, named by a hash."""

from __future__ import annotations

from typing import Any

import pytest

from eclipse_pl.world.prompts import prompt_set, prompts_sha256
from eclipse_pl.world.scenes import CATEGORIES
from eclipse_pl.world.splits import training_scenes


@pytest.mark.parametrize("category", CATEGORIES)
def test_prompts_are_what_was_asked_for(category: str) -> None:
    trained = {pair.caption for pair in training_scenes(600)}
    seen, unseen = prompt_set(category, "seen", 40), prompt_set(category, "unseen", 40)
    for composition, prompts in (("seen", seen), ("unseen", unseen)):
        assert len({prompt.text for prompt in prompts}) == len({prompt.id for prompt in prompts}) == 40
        assert {(prompt.category, prompt.composition) for prompt in prompts} == {(category, composition)}
        assert all(prompt.description.agrees(prompt.scene) for prompt in prompts)
        assert all(prompt.scene.unseen == (composition == "unseen") for prompt in prompts)
        assert not {prompt.text for prompt in prompts} & trained


def test_the_hash_names_the_set() -> None:
    first = prompts_sha256(prompt_set("colour", "seen", 10, seed=1))
    assert first == prompts_sha256(prompt_set("colour", "seen", 10, seed=1)) and len(first) == 64
    assert first != prompts_sha256(prompt_set("colour", "seen", 10, seed=2))
    assert first != prompts_sha256(prompt_set("colour", "seen", 9, seed=1))


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"category": "color"}, "no category 'color'"),
        ({"composition": "both"}, "neither 'seen' nor 'unseen'"),
    ],
)
def test_bad_requests(wrong: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        prompt_set(**{"category": "colour", "composition": "seen", "n": 1, **wrong})
