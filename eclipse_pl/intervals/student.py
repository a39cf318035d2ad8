from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

from eclipse_pl.intervals.estimate import LEVEL, Estimate

STUDENT = "Student's t"


def mean_interval(values: Sequence[float], resolution: float = 0.0) -> Estimate:
    """Mean and Student's t-interval of values that vary normally and independently, such as a metric over training seeds.

    Differences of paired values give the interval of a paired comparison. One value has no interval, and neither have equal
    ones (which differ by ``resolution`` at most): they show no variation by which to tell it, and an interval of no width
    would claim a certainty that three seeds with the same share of 1,000 pairs do not give.
    """
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2 or not math.isfinite(mean) or max(values) - min(values) <= resolution:
        return Estimate.without(mean, n)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = t_quantile((1 + LEVEL) / 2, n - 1) * deviation / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n, STUDENT)


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
