"""Intervals at 95 %: of a mean over seeds (Student's t), of a mean over many pairs (bootstrap), of a mean of such means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from jaxtyping import Float

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean of ``n`` values and its interval; NaN bounds where there is none, as for a single value."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def has_interval(self) -> bool:
        return not math.isnan(self.low)

    @property
    def excludes_zero(self) -> bool:
        """False also without an interval: nothing is known then."""
        return self.low > 0 or self.high < 0


def mean_interval(values: Sequence[float], resolution: float = 0.0) -> Estimate:
    """Mean and Student's t-interval of values that vary normally and independently, such as a metric over training seeds.

    Differences of paired values give the interval of a paired comparison. One value has no interval, and neither have equal
    ones (which differ by ``resolution`` at most): they show no variation by which to tell it, and an interval of no width
    would claim a certainty that three seeds with the same share of 1,000 pairs do not give.
    """
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2 or not math.isfinite(mean) or max(values) - min(values) <= resolution:
        return Estimate(mean, math.nan, math.nan, n)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = t_quantile((1 + LEVEL) / 2, n - 1) * deviation / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n)


@cache
def t_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t with whole degrees of freedom, for probabilities of 0.5 and more, to double precision.

    The inverse of `t_central`, by bisection of the angle whose tangent is t / sqrt(degrees).
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        if _central(middle, degrees) < 2 * probability - 1:
            low = middle
        else:
            high = middle
    return math.sqrt(degrees) * math.tan((low + high) / 2)


def t_central(t: float, degrees: int) -> float:
    """P(|T| <= t): the finite series of Abramowitz & Stegun 26.7.3 and 26.7.4, exact for whole degrees of freedom."""
    return _central(math.atan(t / math.sqrt(degrees)), degrees)


def _central(angle: float, degrees: int) -> float:
    odd = degrees % 2
    square = math.cos(angle) ** 2
    term, total = (math.cos(angle) if odd else 1.0), 0.0
    for number in range(degrees // 2):
        total += term
        term *= square * (2 * number + 1 + odd) / (2 * number + 2 + odd)
    return (angle + math.sin(angle) * total) * 2 / math.pi if odd else math.sin(angle) * total


def bootstrap_interval(values: Float[np.ndarray, " pairs"], repetitions: int = 10_000, seed: int = 0) -> Estimate:
    """Mean and percentile bootstrap interval (Efron 1979) of values that many independent pairs have; the same for one seed.

    Drawing pairs with replacement is drawing how often each distinct value comes up, so a win rate costs a few numbers a
    repetition however many pairs there are. Where every pair was won or every pair lost a bootstrap knows no doubt, and the
    exact bound of Clopper & Pearson (1934) takes its place.
    """
    n = len(values)
    levels, counts = np.unique(values, return_counts=True)
    mean = float(values.mean()) if n else math.nan
    if n < 2 or not math.isfinite(mean):
        return Estimate(mean, math.nan, math.nan, n)
    if len(levels) == 1 and mean in (0.0, 1.0):
        bound = ((1 - LEVEL) / 2) ** (1 / n)
        return Estimate(mean, bound, 1.0, n) if mean else Estimate(mean, 0.0, 1 - bound, n)
    drawn = np.random.default_rng(seed).multinomial(n, counts / n, size=repetitions) @ levels / n
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(mean, float(low), float(high), n)


def bootstrap_over_groups(
    values: Float[np.ndarray, " rows"], groups: Sequence[str], repetitions: int = 10_000, seed: int = 0
) -> Estimate:
    """The same where rows of one group resemble each other, such as pictures of one prompt; ``n`` counts the groups.

    Groups are drawn, each with all its rows: rows drawn alone would give intervals that are far too narrow.
    """
    _, rows = np.unique(np.asarray(groups), return_inverse=True)
    sums, counts = np.bincount(rows, values), np.bincount(rows)
    n = len(counts)
    means = sums / counts
    if (counts == 1).all() or n < 2 or (means == means[0]).all():
        return replace(bootstrap_interval(means, repetitions, seed), mean=float(values.mean()) if n else math.nan)
    rng, drawn = np.random.default_rng(seed), []
    for first in range(0, repetitions, 500):  # a few megabytes at a time
        chosen = rng.integers(n, size=(min(500, repetitions - first), n))
        drawn.append(sums[chosen].sum(1) / counts[chosen].sum(1))
    low, high = np.quantile(np.concatenate(drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(values.mean()), float(low), float(high), n)


def mean_of_independent(estimates: Sequence[Estimate]) -> Estimate:
    """Mean of estimates from separate data, such as scores of several categories; ``n`` is what they have together.

    The interval is that of Zou & Donner (2008) for a sum: distances from estimate to bound add up by their squares, each side
    for itself. None where one of the estimates has none.
    """
    count = len(estimates)
    mean = math.fsum(one.mean for one in estimates) / count
    below = math.sqrt(math.fsum((one.mean - one.low) ** 2 for one in estimates)) / count
    above = math.sqrt(math.fsum((one.high - one.mean) ** 2 for one in estimates)) / count
    return Estimate(mean, mean - below, mean + above, sum(one.n for one in estimates))
