"""3-in-1: T2I-CompBench's score of complex prompts (3_in_1_eval), the mean of three scorers.

The official script joins three lists by position, so one missing file shifts all later rows. This one joins rows by prompt
and seed.
"""

from __future__ import annotations

from collections.abc import Iterable

from eclipse_pl.prompts.prompt import Prompt
from eclipse_pl.scorers.scorer import Score, Scores

PART_NAMES = ("attribute", "spatial", "clip")

PARTS = {
    "spatial": ("attribute", "spatial"),
    "action": ("attribute", "clip"),
    "spatialaction": ("attribute", "spatial", "clip"),
}
"""Subset of the complex prompts -> scorers that count."""


def three_in_one(
    prompts: Iterable[Prompt], seeds: Iterable[int], attribute: Scores, spatial: Scores, clip: Scores
) -> dict[tuple[str, int], Score]:
    """Return one score for each prompt and seed.

    Args:
        prompts: Prompts of the complex category, with subset ``spatial``, ``action`` or ``spatialaction``.
        seeds: Seeds of every prompt.
        attribute: Scores of `BlipVqaScorer`.
        spatial: Scores of `DetectorScorer`. Prompts of ``action`` need none.
        clip: Scores of `ClipScorer` with ``drop_adjectives``. Prompts of ``spatial`` need none.

    Raises:
        ValueError: A prompt belongs to another subset, or a score is missing.
    """
    scorers, seeds = {"attribute": attribute, "spatial": spatial, "clip": clip}, list(seeds)
    joined = {}
    for prompt in prompts:
        if prompt.subset not in PARTS:
            raise ValueError(
                f"Prompt {prompt.id} is of subset {prompt.subset!r}; 3-in-1 is defined for {', '.join(PARTS)}, the parts of "
                "T2I-CompBench's complex prompts."
            )
        for seed in seeds:
            scores = {}
            for name in PARTS[prompt.subset]:
                if (prompt.id, seed) not in scorers[name]:
                    raise ValueError(
                        f"The {name} scores lack prompt {prompt.id} with seed {seed}. 3-in-1 needs the scores of all its "
                        "scorers for the same images: score the complex prompts with each of them first."
                    )
                scores[name] = scorers[name][prompt.id, seed]
            joined[prompt.id, seed] = _mean(scores)
    return joined


def _mean(scores: dict[str, Score]) -> Score:
    for name, score in scores.items():
        if score.failure:
            return Score.failed(f"{name}: {score.failure}")
    values = {name: score.value for name, score in scores.items()}
    return Score(sum(values.values()) / len(values), values)
