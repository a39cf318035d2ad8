"""The latent numbers of a comparison: means over seeds, differences by paired seeds, win rates over pairs, learning curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from eclipse_pl.callbacks.latent import THIS_PRIOR
from eclipse_pl.intervals import Estimate, mean_interval, rate_interval
from eclipse_pl.latent_metrics import ALL, LABELS, ROWS
from eclipse_pl.reports.comparison import Comparison
from eclipse_pl.reports.fairness import Kind
from eclipse_pl.reports.metric import LOWER_WINS, NOTHING, Metric
from eclipse_pl.reports.run_record import RunRecord
from eclipse_pl.reports.variants import Variant


@dataclass(frozen=True)
class CurvePoint:
    """A variant at one validation: means over the seeds that reached it."""

    step: int
    samples: float
    seconds: float
    value: Estimate


@dataclass(frozen=True, eq=False)
class LatentComparison(Comparison):
    """Variants that have latent tables."""

    kind: ClassVar[Kind] = "latent"

    @classmethod
    def holds(cls, run: RunRecord) -> bool:
        return run.has_table

    @cached_property
    def subsets(self) -> list[str]:
        """ "all" and the subsets that every run's table has."""
        tables = [run.rows[THIS_PRIOR] for run in self.runs]
        return [subset for subset in tables[0] if all(subset in table for table in tables)]

    @cached_property
    def beside(self) -> dict[str, dict[str, dict[str, float]]]:
        """Baselines, ridge and upper bound: {label: {subset: {metric: value}}}; one row where all runs agree on it."""
        rows = {}
        for name in (name for name in ROWS if name != THIS_PRIOR):
            tables: list[tuple[list[str], dict[str, dict[str, float]]]] = []
            for variant in self.variants:
                for table in (run.rows[name] for run in variant.runs.values() if name in run.rows):
                    same = next((names for names, other in tables if agree(table[ALL], other[ALL])), None)
                    if same is None:
                        tables.append(([variant.name], table))
                    elif variant.name not in same:
                        same.append(variant.name)
            for names, table in tables:
                label = LABELS.get(name, name)
                rows[label if len(tables) == 1 else f"{label}: {'; '.join(names)}"] = table
        return rows

    def estimate(self, variant: Variant, metric: Metric, subset: str = ALL) -> Estimate:
        """Mean over seeds."""
        values = [value_of(run, metric, subset) for run in variant.runs.values()]
        return mean_interval(values, resolution(values))

    def difference(self, variant: Variant, metric: Metric, subset: str = ALL) -> Estimate:
        """Mean over paired seeds of the variant less the reference; nothing where they share no seed."""
        pairs = self.pairs(variant)
        if not pairs:
            return NOTHING
        ours, theirs = ([value_of(run, metric, subset) for run in runs] for runs in zip(*pairs, strict=True))
        return mean_interval([our - their for our, their in zip(ours, theirs, strict=True)], resolution(ours + theirs))

    def win_rate(self, variant: Variant, column: str, subset: str = ALL) -> Estimate:
        """How often a pair is better than under the reference with the same seed.

        Its interval is over images: captions of one image are won or lost together.
        """
        scores, images = [], np.zeros(0)
        for run, other in self.pairs(variant):
            ours, theirs = run.pairs, other.pairs
            if ours is None or theirs is None or not np.array_equal(ours["index"], theirs["index"]):
                return NOTHING
            sign = -1 if column in LOWER_WINS else 1
            taken = (ours["subset"] == subset) | (subset == ALL)
            scores.append(wins(sign * ours[column][taken], sign * theirs[column][taken]))
            images = ours["group"][taken]
        if not scores:
            return NOTHING
        over_seeds = np.mean(scores, axis=0)
        known = ~np.isnan(over_seeds)
        return rate_interval(over_seeds[known], images[known]) if known.any() else NOTHING

    def curve(self, variant: Variant, metric: Metric, subset: str = ALL) -> list[CurvePoint]:
        """Validations that all seeds of a variant have, in order."""
        curves = [run.curve(metric.name, subset) for run in variant.runs.values()]
        points = []
        for step in (step for step in curves[0] if all(step in curve for curve in curves)):
            samples, seconds, values = zip(*(curve[step] for curve in curves), strict=True)
            estimate = mean_interval(values, resolution(values))
            points.append(CurvePoint(step, sum(samples) / len(samples), sum(seconds) / len(seconds), estimate))
        return points


def wins(ours: Float[np.ndarray, " pairs"], theirs: Float[np.ndarray, " pairs"]) -> Float[np.ndarray, " pairs"]:
    """1 where ours is higher, ties half. What is not a number loses against a number; NaN where neither is one."""
    won = (ours > theirs) + (ours == theirs) / 2
    won[np.isnan(theirs)] = 1.0
    won[np.isnan(ours)] = 0.0
    won[np.isnan(ours) & np.isnan(theirs)] = np.nan
    return won


def value_of(run: RunRecord, metric: Metric, subset: str) -> float:
    return run.rows[THIS_PRIOR][subset][metric.name]


def resolution(values: Sequence[float]) -> float:
    """What is rounding in numbers that were computed in float32, and far below the share of one pair."""
    return 1e-6 * max(abs(value) for value in values)


def agree(one: dict[str, float], other: dict[str, float]) -> bool:
    """Equal but for rounding."""
    return all(
        math.isclose(value, other[name], rel_tol=1e-4, abs_tol=1e-6) or math.isnan(value) for name, value in one.items()
    )
