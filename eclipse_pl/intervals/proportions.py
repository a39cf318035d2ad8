from __future__ import annotations

import math

import numpy as np

from eclipse_pl.intervals.estimate import LEVEL, TOO_FEW, Estimate
from eclipse_pl.intervals.groups import Groups
from eclipse_pl.intervals.student import t_quantile

EXACT = "Clopper-Pearson"
NEWCOMBE = "Newcombe"
NORMAL = 1.959963984540054
"""Quantile of the normal distribution for `LEVEL`."""

DRAWS = 10_000


def exact_interval(groups: Groups) -> Estimate:
    """Mean of rows between 0 and 1 (outcomes, wins with ties at a half), with the exact bound of Clopper & Pearson (1934).

    Where groups have several rows, or rows other values than 0 and 1, it is the form that Gaffke (2005, "Three test statistics
    for a nonparametric one-sided hypothesis on the mean of a nonnegative variable") gives to it: the groups, and one more at
    the far end of the scale, get random weights, uniform over all that sum to 1, and the bound is a quantile of the weighted
    means. That is Clopper & Pearson's bound for outcomes of groups of one row; it holds for all distributions and numbers of
    groups, however alike the rows of a group are (by simulation, Learned-Miller & Thomas 2019; it is not proven).
    """
    if len(groups) < 2:
        return Estimate.without(float(groups.means[0]), len(groups), TOO_FEW)
    if groups.outcomes and groups.counts.max() == 1:
        hits, n = round(groups.sums.sum()), len(groups)
        return Estimate(hits / n, least_share(hits, n), 1 - least_share(n - hits, n), n, EXACT)
    levels, times = np.unique(np.column_stack([groups.sums, groups.counts]), axis=0, return_counts=True)
    rng = np.random.default_rng(0)
    weights = rng.standard_gamma(times, (DRAWS, len(times)))
    beyond = rng.standard_exponential(DRAWS) * groups.counts.mean()
    total, size = (weights @ levels).T
    low = np.quantile(total / (size + beyond), (1 - LEVEL) / 2)
    high = np.quantile((total + beyond) / (size + beyond), (1 + LEVEL) / 2)
    return Estimate(float(groups.means[0]), float(low), float(high), len(groups), EXACT)


def least_share(hits: int, n: int) -> float:
    """The lower bound of Clopper & Pearson: the share of which so many hits or more of ``n`` come up once in 40 times."""
    if hits == 0:
        return 0.0
    logs = np.append(0.0, np.cumsum(np.log(np.arange(1, n + 1))))
    k = np.arange(hits, n + 1)
    ways = logs[n] - logs[k] - logs[n - k]
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        tail = np.exp(ways + k * math.log(middle) + (n - k) * math.log1p(-middle)).sum()
        low, high = (middle, high) if tail < (1 - LEVEL) / 2 else (low, middle)
    return low


def newcombe_interval(groups: Groups) -> Estimate:
    """Difference of two shares of the same rows (columns of 0 and 1): method 10 of Newcombe (1998) for paired proportions.

    Wilson's intervals of both shares are joined by squares, with their correlation. Where groups have several rows, each share
    counts as that of the number of independent rows that would vary as much (Korn & Graubard 1998): never fewer than groups,
    never more than rows. Correlation is that of the groups, less Newcombe's correction for continuity.
    """
    n, rows = len(groups), float(groups.counts.sum())
    first, second = (float(mean) for mean in groups.means)
    if n < 2:
        return Estimate.without(first - second, n, TOO_FEW)
    spread = groups.residuals.T @ groups.residuals / n
    covariance = float(spread[0, 1])
    if covariance > 0:
        covariance = max(0.0, covariance - 1 / (2 * n))
    deviations = math.sqrt(spread[0, 0] * spread[1, 1])
    correlation = max(-1.0, min(1.0, covariance / deviations)) if deviations > 1e-12 else 0.0
    least = rows**2 / float(np.square(groups.counts).sum())
    inflation = (t_quantile((1 + LEVEL) / 2, n - 1) / NORMAL) ** 2
    bounds = []
    for share, variance in ((first, spread[0, 0]), (second, spread[1, 1])):
        variance *= inflation / (n - 1)
        size = rows if rows == n else min(max(share * (1 - share) / variance, least), rows) if variance > 1e-12 else least
        bounds.append(wilson(share, size))
    (low_1, high_1), (low_2, high_2) = bounds
    difference = first - second

    def joined(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one**2 - 2 * correlation * one * other + other**2))

    low = difference - joined(first - low_1, high_2 - second)
    high = difference + joined(high_1 - first, second - low_2)
    return Estimate(difference, low, high, n, NEWCOMBE)


def wilson(share: float, n: float) -> tuple[float, float]:
    """The score interval of Wilson (1927)."""
    square = NORMAL**2
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = NORMAL * math.sqrt(share * (1 - share) / n + square / (4 * n * n)) / (1 + square / n)
    return middle - half, middle + half
