"""A fixed stratified part of a prompt set. The smaller of two parts lies inside the larger."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from hashlib import sha256

from eclipse_pl.prompts.prompt import Prompt, PromptSet


def stratified(prompts: PromptSet, per_category: int, seed: int = 0) -> PromptSet:
    """Return at most ``per_category`` prompts of each category, in the set's order.

    The strata are a category's subsets, relations and numbers of objects. Each has its share of the part, as nearly as the
    size allows. The choice depends only on the hash of (seed, id). The part of one size lies inside the part of every larger
    size.

    Raises:
        ValueError: ``per_category`` is below 1.
    """
    if per_category < 1:
        raise ValueError(f"per_category is {per_category}; it must be at least 1.")
    chosen: set[str] = set()
    for category in prompts.categories:
        strata: dict[tuple[str, str, int], list[Prompt]] = defaultdict(list)
        for prompt in prompts:
            if prompt.category == category:
                name = prompt.relation.name if prompt.relation else ""
                strata[prompt.subset, name, len(prompt.required)].append(prompt)
        # A prompt's place is its rank in its stratum as a fraction, so that every prefix has all strata in proportion.
        places = [
            ((rank + 0.5) / len(stratum), _draw(seed, prompt), prompt.id)
            for stratum in strata.values()
            for rank, prompt in enumerate(sorted(stratum, key=lambda prompt: _draw(seed, prompt)))
        ]
        chosen.update(prompt_id for *_, prompt_id in sorted(places)[:per_category])
    return replace(
        prompts,
        prompts=tuple(prompt for prompt in prompts if prompt.id in chosen),
        failed=tuple((prompt_id, reason) for prompt_id, reason in prompts.failed if prompt_id in chosen),
    )


def _draw(seed: int, prompt: Prompt) -> str:
    return sha256(f"{seed} {prompt.id}".encode()).hexdigest()
