"""What may be drawn over a parameter: a latent metric or a score, by its name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from eclipse_pl.intervals import Estimate
from eclipse_pl.latent_metrics import ALL
from eclipse_pl.reports.comparison import Comparison
from eclipse_pl.reports.latent_comparison import LatentComparison, value_of
from eclipse_pl.reports.metric import BY_NAME
from eclipse_pl.reports.report import Report
from eclipse_pl.reports.score_column import Column
from eclipse_pl.reports.score_comparison import ScoreComparison
from eclipse_pl.reports.variants import Variant


@dataclass(frozen=True)
class Quantity:
    """A number of each variant."""

    name: str
    better: str
    comparison: Comparison
    """The variants that have it."""
    estimate: Callable[[Variant], Estimate]
    single: Callable[[Variant], list[float]]
    """Values of the single seeds."""
    levels: dict[str, float]
    """Values of what is no variant: baselines, ridge regression, upper bound."""
    intervals: str
    """What they are over."""


def quantity_of(report: Report, y: str) -> Quantity:
    """A latent metric as METRIC or SUBSET/METRIC, a score or distance by the name it is logged under.

    Raises:
        ValueError: there is none of that name; with the choices.
    """
    scores = {column.name: column for column in report.scores.all_columns} if report.scores else {}
    if report.scores is not None and y in scores:
        return score_quantity(report.scores, scores[y])
    subset, _, metric = y.rpartition("/")
    if report.latent is not None and metric in BY_NAME and (subset or ALL) in report.latent.subsets:
        return latent_quantity(report.latent, metric, subset or ALL)
    choices = []
    if report.latent is not None:
        choices.append(
            f"the metrics are {', '.join(BY_NAME)}, alone or as SUBSET/METRIC with one of {', '.join(report.latent.subsets)}"
        )
    if scores:
        choices.append(f"the scores are {', '.join(scores)}")
    raise ValueError(f"--y {y} is no metric and no score; {'; '.join(choices)}.")


def latent_quantity(latent: LatentComparison, name: str, subset: str) -> Quantity:
    metric = BY_NAME[name]
    return Quantity(
        name if subset == ALL else f"{name}, {subset} pairs",
        metric.better,
        latent,
        lambda variant: latent.estimate(variant, metric, subset),
        lambda variant: [value_of(run, metric, subset) for run in variant.runs.values()],
        {row: rows.get(subset, {}).get(name, math.nan) for row, rows in latent.beside.items()},
        seeds_told(latent, "no interval"),
    )


def score_quantity(scores: ScoreComparison, column: Column) -> Quantity:
    return Quantity(
        column.name.removeprefix("benchmark/"),
        column.better,
        scores,
        lambda variant: scores.estimate(variant, column),
        lambda variant: [scores.value(run, column) for run in variant.runs.values()],
        {},
        seeds_told(scores, "95 % intervals over prompts"),
    )


def seeds_told(comparison: Comparison, single: str) -> str:
    """How many seeds there are, and what intervals are over."""
    counts = sorted(len(variant.runs) for variant in comparison.variants if variant.first.has_seeds)
    if not counts or counts[-1] == 1:
        return f"n = 1 seed: {single}"
    told = f"n = {' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} seeds, 95 % t-intervals"
    return told if counts[0] > 1 else f"{told}; of 1 seed {single}"
