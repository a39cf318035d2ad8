"""Intervals over prompts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def interval_over_prompts(
    values: Float[np.ndarray, "rows"] | Sequence[float],
    prompt_ids: Sequence[str],
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap of the mean of all rows. Prompts are drawn, each with all its rows, because pictures of one
    prompt resemble each other. One prompt has no spread: its interval is its mean.
    """
    prompts, rows = np.unique(np.asarray(prompt_ids), return_inverse=True)
    sums, counts = np.bincount(rows, np.asarray(values, dtype=np.float64)), np.bincount(rows)
    rng, means = np.random.default_rng(seed), []
    for first in range(0, resamples, 500):
        drawn = rng.integers(len(prompts), size=(min(500, resamples - first), len(prompts)))
        means.append(sums[drawn].sum(1) / counts[drawn].sum(1))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
