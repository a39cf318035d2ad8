from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.95

TOO_FEW = "too few"
ALL_EQUAL = "all equal"
WITHOUT = (TOO_FEW, ALL_EQUAL)
"""Why there is no interval."""


@dataclass(frozen=True)
class Estimate:
    """A mean of ``n`` values and its interval; NaN bounds where there is none, as for a single value."""

    mean: float
    low: float
    high: float
    n: int
    method: str = ""
    """How the interval was made, or why there is none (`WITHOUT`); empty where that goes without saying."""

    @classmethod
    def without(cls, mean: float, n: int, why: str = "") -> Estimate:
        return cls(mean, math.nan, math.nan, n, why)

    @property
    def has_interval(self) -> bool:
        return not math.isnan(self.low)

    @property
    def excludes_zero(self) -> bool:
        """False also without an interval: nothing is known then."""
        return self.low > 0 or self.high < 0


def mean_of_independent(estimates: Sequence[Estimate]) -> Estimate:
    """Mean of estimates from separate data, such as scores of several categories; ``n`` is what they have together.

    The interval is that of Zou & Donner (2008) for a sum: distances from estimate to bound add up by their squares, as
    variances do, each side for itself. None where one of the estimates has none.
    """
    count = len(estimates)
    n = sum(one.n for one in estimates)
    mean = math.fsum(one.mean for one in estimates) / count
    if missing := [one for one in estimates if not one.has_interval]:
        return Estimate.without(mean, n, missing[0].method)
    below = math.sqrt(math.fsum((one.mean - one.low) ** 2 for one in estimates)) / count
    above = math.sqrt(math.fsum((one.high - one.mean) ** 2 for one in estimates)) / count
    methods = {one.method for one in estimates}
    return Estimate(mean, mean - below, mean + above, n, methods.pop() if len(methods) == 1 else "")
