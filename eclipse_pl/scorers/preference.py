"""Preference of one model over another by a scorer's scores, as ECLIPSE reports PickScore (section 4.1, figure 4).

The paper states no formula, seeds or ties. Ours: equal seeds, half a win for a tie, and an interval over prompts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from eclipse_pl.intervals import Estimate, rate_interval

ScoreValues = Mapping[tuple[str, int], float]
"""(prompt id, seed) -> score. NaN marks an image that could not be scored."""


@dataclass(frozen=True)
class Preference:
    """Preference of A over B."""

    win_rate: Estimate
    """Fraction of the pairs that A wins, and its interval over prompts. A tie is half a win."""
    probability: float
    """Mean probability of A: the softmax of both scores."""
    wins: int
    ties: int
    losses: int
    failed: int
    """Pairs with an image that could not be scored. Nothing else counts them."""

    @property
    def pairs(self) -> int:
        return self.wins + self.ties + self.losses


def prefer(a: ScoreValues, b: ScoreValues, tie_threshold: float = 0.0, scale: float = 1.0) -> Preference:
    """Compare images of the same prompt and seed.

    Args:
        a: Scores of A.
        b: Scores of B.
        tie_threshold: Largest difference between the probabilities of a tie. 0 makes only equal scores a tie.
        scale: Factor of the scores before the softmax: 1 for PickScore, 100 for the cosines of HPS.
    """
    require_same_rows(a, b)
    keys = sorted(a)
    scores = scale * np.array([[a[key], b[key]] for key in keys], dtype=np.float64)
    scored = np.isfinite(scores.sum(1))
    if not scored.any():
        raise ValueError(f"None of the {len(keys)} pairs can be compared: in each of them an image could not be scored.")
    difference = scores[scored, 0] - scores[scored, 1]
    probability = 1 / (1 + np.exp(-difference))
    tie = np.abs(2 * probability - 1) <= tie_threshold
    outcome = np.where(tie, 0.5, difference > 0)
    ids = [prompt for (prompt, _), good in zip(keys, scored, strict=True) if good]
    return Preference(
        win_rate=rate_interval(outcome, ids),
        probability=float(probability.mean()),
        wins=int((outcome == 1).sum()),
        ties=int(tie.sum()),
        losses=int((outcome == 0).sum()),
        failed=int((~scored).sum()),
    )


def require_same_rows(a: ScoreValues, b: ScoreValues) -> None:
    """Raise ValueError unless both sides have the same prompts and seeds."""
    if not a and not b:
        raise ValueError("There are no rows to compare.")
    for rows, others, name in ((a, b, "A"), (b, a, "B")):
        if missing := sorted(others.keys() - rows.keys()):
            prompt, seed = missing[0]
            raise ValueError(
                f"{name} lacks {len(missing)} of the rows that the other has, prompt {prompt} with seed {seed} among them. "
                "Generate both with the same prompts and seeds."
            )
