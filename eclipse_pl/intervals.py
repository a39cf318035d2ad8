from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, stdev


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Mean, and half the width of its t-interval; NaN for a single value, which says nothing about its spread."""
    if len(values) < 2:
        return mean(values), math.nan
    return mean(values), t_quantile(len(values) - 1, level) * stdev(values) / math.sqrt(len(values))


def t_quantile(freedom: int, level: float) -> float:
    """The t within which Student's variable lies with probability ``level``, on both sides of 0."""
    low, high = 0.0, 1.0
    while t_probability(high, freedom) < level:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if t_probability(middle, freedom) < level else (low, middle)
    return high


def t_probability(t: float, freedom: int) -> float:
    """P(\\|T\\| < t), a finite sum where the degrees of freedom are whole: Abramowitz and Stegun 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for power in range(1 + odd, freedom, 2):  # terms of cos^odd, cos^(odd + 2), ...
        total += term
        term *= math.cos(angle) ** 2 * power / (power + 1)
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total
