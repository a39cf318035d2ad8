"""The part of a win rate that one prompt has, by which the page sorts prompts."""

from __future__ import annotations

import math
from dataclasses import dataclass

from eclipse_pl.reports.run_record import RunRecord
from eclipse_pl.reports.score_comparison import ScoreColumn, ScoreComparison, pooled_values
from eclipse_pl.reports.variants import Variant


@dataclass(frozen=True)
class PromptWins:
    """How often the images of one prompt are better than the reference's: the part of a win rate that a prompt has."""

    rate: float
    """Ties count half, as in a win rate."""
    difference: float
    """Mean difference of the values, which tells prompts of the same rate apart."""
    pairs: int


def wins_by_prompt(pairs: list[tuple[RunRecord, RunRecord]], column: ScoreColumn) -> dict[str, PromptWins]:
    """{prompt id: wins}; without prompts of which no image was scored on both sides."""
    ours, theirs = pooled_values(pairs, column) or ({}, {})
    differences: dict[str, list[float]] = {}
    for key, value in ours.items():
        if math.isfinite(difference := value - theirs[key]):
            differences.setdefault(key[0], []).append(difference)
    return {
        prompt: PromptWins(
            math.fsum(0.5 if one == 0 else one > 0 for one in of_prompt) / len(of_prompt),
            math.fsum(of_prompt) / len(of_prompt),
            len(of_prompt),
        )
        for prompt, of_prompt in differences.items()
    }


def wins_of(scores: ScoreComparison, variant: Variant, scorer: str) -> dict[str, list[float | int]]:
    """{prompt id: [win rate, mean difference, pairs]} of a variant against the reference.

    Empty where neither high nor low is better, as the table has no win rate there.
    """
    pairs: list[tuple[RunRecord, RunRecord]] = scores.pairs(variant)
    columns = [column for column in scores.columns(scorer) if not column.is_mean and column.better != "none"]
    of_categories = (wins_by_prompt(pairs, column) for column in columns)
    return {
        prompt: [round(won.rate, 4), won.difference, won.pairs]
        for of_category in of_categories
        for prompt, won in of_category.items()
    }
