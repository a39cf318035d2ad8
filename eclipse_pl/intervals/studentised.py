from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from eclipse_pl.intervals.estimate import ALL_EQUAL, LEVEL, TOO_FEW, Estimate
from eclipse_pl.intervals.groups import Groups
from eclipse_pl.intervals.student import t_quantile

STUDENTISED = "studentised bootstrap"

LEAST = 20
"""Groups. With fewer no interval is right for skewed scores: tests/test_coverage.py."""

DRAWS = 4000
AT_ONCE = 2_000_000
"""Numbers that are drawn together, which is some tens of megabytes."""


def studentised_interval(parts: Sequence[Groups]) -> Estimate:
    """Mean of scores: the studentised bootstrap (bootstrap-t, Efron 1982) over groups.

    What is resampled is the mean's deviation in units of its own standard error, so that the interval leans to the side to
    which scores are skewed. On neither side is it narrower than Student's t: each is too narrow for distributions that the
    other covers. Several parts, such as categories, weigh equally, and each is resampled by itself.

    There is none for fewer than `LEAST` groups. By simulation (tests/test_coverage.py) at least 93 % of intervals cover the
    truth from 20 groups on, for normal, exponential, beta and lognormal scores, and differences of which four in five are next
    to nothing; of 10 groups it is 89 % in the worst case. Where no more than one group in twenty differs, fewer than 100
    groups do not tell by how much: no interval can, and this one does not.

    Args:
        parts: of one column each.
    """
    n = sum(len(part) for part in parts)
    mean = float(np.mean([part.means[0] for part in parts]))
    if n < LEAST or any(len(part) < 2 for part in parts):
        return Estimate.without(mean, n, TOO_FEW)
    error = math.sqrt(sum(variance_of(part) for part in parts)) / len(parts)
    scale = max(float(np.abs(part.sums / part.counts[:, None]).max()) for part in parts)
    if error <= 1e-9 * scale:
        return Estimate.without(mean, n, ALL_EQUAL)
    rng = np.random.default_rng(0)
    moved, variances = np.zeros(DRAWS), np.zeros(DRAWS)
    for part in parts:
        means, errors = resampled(part, rng)
        moved += means
        variances += errors
    with np.errstate(divide="ignore", invalid="ignore"):
        # no error at all: all groups that were drawn are alike, and the deviation is infinitely many of it, or none
        deviations = np.nan_to_num(moved / np.where(variances > (1e-9 * scale) ** 2, np.sqrt(variances), 0.0), nan=0.0)
    low, high = np.quantile(deviations, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="inverted_cdf")
    student = t_quantile((1 + LEVEL) / 2, n - len(parts))
    below, above = error * max(float(high), student), error * max(-float(low), student)
    if not below + above < 1e6 * error:
        return Estimate.without(mean, n, TOO_FEW)
    return Estimate(mean, mean - below, mean + above, n, STUDENTISED)


def variance_of(part: Groups) -> float:
    """Of the part's mean."""
    n = len(part)
    return float(np.square(part.residuals).sum()) / (n * (n - 1))


def resampled(part: Groups, rng: np.random.Generator) -> tuple[Float[np.ndarray, " draws"], Float[np.ndarray, " draws"]]:
    """Deviations of the mean when groups are drawn with replacement, and the variance that each of the draws shows."""
    n = len(part)
    sums, counts = (part.sums - part.means * part.counts[:, None])[:, 0], part.counts
    means, variances = [], []
    size = max(1, AT_ONCE // n)
    for first in range(0, DRAWS, size):
        chosen = rng.integers(n, size=(min(size, DRAWS - first), n))
        total = counts[chosen].sum(1)
        mean = sums[chosen].sum(1) / total
        residuals = sums[chosen] - mean[:, None] * counts[chosen]
        means.append(mean)
        variances.append(np.square(residuals).sum(1) / total**2 * n / (n - 1))
    return np.concatenate(means), np.concatenate(variances)
