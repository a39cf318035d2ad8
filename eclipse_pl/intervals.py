"""Means and their 95 % intervals: over training seeds, over rows that come in groups, over several independent parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float

LEVEL = 0.95

STUDENT = "Student's t"
EXACT = "Clopper-Pearson"
NEWCOMBE = "Newcombe"
STUDENTISED = "studentised bootstrap"
TOO_FEW = "too few"
ALL_EQUAL = "all equal"
WITHOUT = (TOO_FEW, ALL_EQUAL)
"""Reasons why there is no interval."""

LEAST = 20
"""Groups that an interval of scores needs. With fewer no interval is right for skewed scores: tests/test_coverage.py."""

RATES = "Clopper and Pearson's exact bound, in Gaffke's form"
OTHERS = f"else a studentised bootstrap, or (too few) where there are fewer than {LEAST}"
SCORES = f"{RATES}, where all scores are 0 or 1, {OTHERS}"
DIFFERENCES = f"Newcombe's for paired proportions where all scores are 0 or 1, {OTHERS}"
"""The methods, as the note of a table names them."""

NORMAL = 1.959963984540054
"""Quantile of the normal distribution for `LEVEL`."""

EXACT_DRAWS, BOOTSTRAP_DRAWS = 10_000, 4000
AT_ONCE = 2_000_000
"""Numbers that are drawn together: some tens of megabytes."""


@dataclass(frozen=True)
class Estimate:
    """A mean of ``n`` values and its interval. The bounds are NaN where there is no interval, as for a single value."""

    mean: float
    low: float
    high: float
    n: int
    method: str = ""
    """How the interval was made, or why there is none (`WITHOUT`); empty if no table has to state it."""

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


NOTHING = Estimate.without(math.nan, 0)
"""The estimate of an unknown value."""


def with_bounds(mean: float, low: float, high: float) -> str:
    """``1.000 [0.794, 1.000]``, as tables in a terminal show an estimate: few intervals reach as far up as down."""
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def mean_interval(values: Sequence[float], resolution: float = 0.0, overlap: float = 0.0) -> Estimate:
    """Mean and Student's t-interval of values that vary normally and independently, such as a metric over training seeds.

    Differences of paired values give the interval of a paired comparison. One value has no interval. Equal values (which
    differ by ``resolution`` at most) have none either: they show no variation, and an interval of no width would claim a
    certainty that three seeds with the same share of 1,000 pairs do not give. ``overlap`` is that of `standard_error`.
    """
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2 or not math.isfinite(mean) or max(values) - min(values) <= resolution:
        return Estimate.without(mean, n)
    half = t_quantile(n - 1) * standard_error(values, overlap)
    return Estimate(mean, mean - half, mean + half, n, STUDENT)


def standard_error(values: Sequence[float], overlap: float = 0.0) -> float:
    """Standard error of the mean of two or more values.

    Values over random splits of the same pairs are not independent. Nadeau & Bengio (2003) correct the variance of their mean
    for that: it is (1/n + overlap) times the variance over the splits, and not 1/n times. ``overlap`` is the number of
    measured pairs over that of training pairs.
    """
    return float(np.std(values, ddof=1)) * math.sqrt(1 / len(values) + overlap)


@cache
def t_quantile(degrees: int) -> float:
    """Quantile of Student's t for `LEVEL`: the half-width of an interval in standard errors."""
    from scipy.stats import t

    return float(t.ppf((1 + LEVEL) / 2, degrees))


def mean_of_independent(estimates: Sequence[Estimate]) -> Estimate:
    """Mean of estimates from separate data, such as scores of several categories; ``n`` is the sum of theirs.

    The interval is that of Zou & Donner (2008) for a sum: the squares of the distances from estimate to bound add up, as
    variances do, on each side for itself. There is none where one of the estimates has none.
    """
    count = len(estimates)
    n = sum(one.n for one in estimates)
    mean = math.fsum(one.mean for one in estimates) / count
    if missing := [one for one in estimates if not one.has_interval]:
        return Estimate.without(mean, n, missing[0].method)
    below = math.hypot(*(one.mean - one.low for one in estimates)) / count
    above = math.hypot(*(one.high - one.mean for one in estimates)) / count
    methods = {one.method for one in estimates}
    return Estimate(mean, mean - below, mean + above, n, methods.pop() if len(methods) == 1 else "")


@dataclass(frozen=True, eq=False)
class Groups:
    """Rows of one or two values, by groups: images of one prompt, captions of one image.

    Rows of one group resemble each other, and groups are independent: an interval from rows alone would be far too narrow.
    """

    sums: Float[np.ndarray, "groups kinds"]
    counts: Float[np.ndarray, " groups"]
    """Rows of each group."""
    outcomes: bool
    """Whether every value is 0 or 1."""

    @classmethod
    def of(cls, values: Float[np.ndarray, "rows kinds"], groups: Sequence[str] | np.ndarray) -> Groups:
        """``groups`` names the group of each row."""
        _, numbers = np.unique(np.asarray(groups), return_inverse=True)
        sums = np.stack([np.bincount(numbers, column) for column in values.T], 1)
        return cls(sums, np.bincount(numbers).astype(float), bool(np.isin(values, (0, 1)).all()))

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def means(self) -> Float[np.ndarray, " kinds"]:
        """Over rows: larger groups weigh more."""
        means: np.ndarray = self.sums.sum(0) / self.counts.sum()
        return means

    @property
    def residuals(self) -> Float[np.ndarray, "groups kinds"]:
        """How far each group moves the mean, times the number of groups: their variance is that of a group."""
        residuals: np.ndarray = (self.sums - self.means * self.counts[:, None]) / self.counts.mean()
        return residuals

    @property
    def difference(self) -> Groups:
        """The first value of each row less its second."""
        return Groups(self.sums[:, :1] - self.sums[:, 1:], self.counts, outcomes=False)


def score_interval(parts: Sequence[Groups]) -> Estimate:
    """Mean of scores over parts, such as categories of prompts, each of equal weight; ``n`` counts the groups of all."""
    if all(part.outcomes for part in parts):
        return mean_of_independent([exact_interval(part) for part in parts])
    return studentised_interval(parts)


def difference_interval(parts: Sequence[Groups]) -> Estimate:
    """Difference of two means over parts. Each row has two values: one side's, and the other's of the same image."""
    if all(part.outcomes for part in parts):
        return mean_of_independent([newcombe_interval(part) for part in parts])
    return studentised_interval([part.difference for part in parts])


def rate_interval(values: Float[np.ndarray, " rows"], groups: Sequence[str] | np.ndarray) -> Estimate:
    """A win rate: the mean of values between 0 and 1."""
    return exact_interval(Groups.of(values[:, None].astype(float), groups))


def exact_interval(groups: Groups) -> Estimate:
    """Mean of rows between 0 and 1 (outcomes, wins with ties at a half), with the exact bound of Clopper & Pearson (1934).

    Where groups have several rows, or rows other values than 0 and 1, it is the form that Gaffke (2005, "Three test statistics
    for a nonparametric one-sided hypothesis on the mean of a nonnegative variable") gives to it: the groups, and one more at
    the far end of the scale, get random weights, uniform over all that sum to 1, and the bound is a quantile of the weighted
    means. That is Clopper & Pearson's bound for outcomes of groups of one row; it holds for all distributions and numbers of
    groups, however alike the rows of a group are (by simulation, Learned-Miller & Thomas 2019; it is not proven).
    """
    n, tail = len(groups), (1 - LEVEL) / 2
    if n < 2:
        return Estimate.without(float(groups.means[0]), n, TOO_FEW)
    if groups.outcomes and groups.counts.max() == 1:
        from scipy.stats import binomtest

        hits = round(groups.sums.sum())
        low, high = binomtest(hits, n).proportion_ci(LEVEL, method="exact")
        return Estimate(hits / n, float(low), float(high), n, EXACT)
    levels, times = np.unique(np.column_stack([groups.sums, groups.counts]), axis=0, return_counts=True)
    rng = np.random.default_rng(0)
    weights = rng.standard_gamma(times, (EXACT_DRAWS, len(times)))
    beyond = rng.standard_exponential(EXACT_DRAWS) * groups.counts.mean()
    total, size = (weights @ levels).T
    low = np.quantile(total / (size + beyond), tail)
    high = np.quantile((total + beyond) / (size + beyond), 1 - tail)
    return Estimate(float(groups.means[0]), float(low), float(high), n, EXACT)


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
    inflation = (t_quantile(n - 1) / NORMAL) ** 2
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
    """The score interval of Wilson (1927); ``n`` may be a fraction, which scipy does not allow."""
    square = NORMAL**2
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = NORMAL * math.sqrt(share * (1 - share) / n + square / (4 * n * n)) / (1 + square / n)
    return middle - half, middle + half


def studentised_interval(parts: Sequence[Groups]) -> Estimate:
    """Mean of scores: the studentised bootstrap (bootstrap-t, Efron 1982) over groups.

    ``scipy.stats.bootstrap`` has neither this method nor groups of several rows. This one resamples the mean's deviation in
    units of its own standard error, so that the interval leans to the side to which scores are skewed. On neither side is it
    narrower than Student's t: each is too narrow for distributions that the other covers. Several parts, such as categories,
    weigh equally, and each is resampled by itself.

    There is none for fewer than `LEAST` groups. By simulation (tests/test_coverage.py) at least 93 % of intervals cover the
    truth from 20 groups on, for normal, exponential, beta and lognormal scores, and differences of which four in five are next
    to nothing; of 10 groups it is 89 % in the worst case. Where no more than one group in twenty differs, fewer than 100
    groups do not show by how much: no interval can, and this one does not.

    Args:
        parts: Groups of one column each.
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
    moved, variances = np.zeros(BOOTSTRAP_DRAWS), np.zeros(BOOTSTRAP_DRAWS)
    for part in parts:
        deviation, variance = resampled(part, rng)
        moved += deviation
        variances += variance
    with np.errstate(divide="ignore", invalid="ignore"):
        # where all drawn groups are alike the standard error is 0: the ratio is infinite, and 0 / 0 counts as 0
        deviations = np.nan_to_num(moved / np.where(variances > (1e-9 * scale) ** 2, np.sqrt(variances), 0.0), nan=0.0)
    low, high = np.quantile(deviations, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="inverted_cdf")
    student = t_quantile(n - len(parts))
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
    for first in range(0, BOOTSTRAP_DRAWS, size):
        chosen = rng.integers(n, size=(min(size, BOOTSTRAP_DRAWS - first), n))
        total = counts[chosen].sum(1)
        mean = sums[chosen].sum(1) / total
        residuals = sums[chosen] - mean[:, None] * counts[chosen]
        means.append(mean)
        variances.append(np.square(residuals).sum(1) / total**2 * n / (n - 1))
    return np.concatenate(means), np.concatenate(variances)
