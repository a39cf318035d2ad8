"""Fixed parts of a prompt set: the same for everybody, a smaller one inside a larger one."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from hashlib import sha256

from eclipse_pl.prompts.prompt import Prompt, PromptSet


def stratified(prompts: PromptSet, per_category: int, seed: int = 0) -> PromptSet:
    """At most ``per_category`` prompts of each category, in the set's order.

    Strata are a category's subsets, relations and numbers of objects; each has its share of the part, as nearly as the size
    allows. The choice is by the hash of (seed, id) and depends on nothing else, and the part of a size lies inside the part
    of every larger size. ValueError for a size below 1.
    """
    if per_category < 1:
        raise ValueError(f"per_category is {per_category}; at least one prompt of a category must stay.")
    chosen: set[str] = set()
    for category in prompts.categories:
        strata: dict[tuple[str, str, int], list[Prompt]] = defaultdict(list)
        for prompt in prompts:
            if prompt.category == category:
                name = prompt.relation.name if prompt.relation else ""
                strata[prompt.subset, name, len(prompt.required)].append(prompt)
        # Place of a prompt = its rank in its stratum as a fraction: a beginning of the order has all strata in proportion.
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
