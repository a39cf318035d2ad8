"""The latent numbers of a comparison: means over seeds, differences by paired seeds, win rates over pairs, curves, costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from eclipse_pl.callbacks.latent import THIS_PRIOR, Rows
from eclipse_pl.data.subset_names import ALL, ROWS
from eclipse_pl.intervals import NOTHING, Estimate, mean_interval, rate_interval
from eclipse_pl.latent.metrics import LABELS
from eclipse_pl.reports.comparison import Comparison
from eclipse_pl.reports.fairness import Kind
from eclipse_pl.reports.metrics import LOWER_WINS, METRICS, Metric
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

    kinds: ClassVar[tuple[Kind, ...]] = ("latent",)
    metrics: ClassVar[tuple[Metric, ...]] = METRICS
    """All columns of its tables."""

    @classmethod
    def holds(cls, run: RunRecord) -> bool:
        return run.has_table

    @staticmethod
    def table_of(run: RunRecord) -> Rows:
        return run.table

    @classmethod
    def value(cls, run: RunRecord, metric: Metric) -> float:
        return cls.table_of(run)[THIS_PRIOR][metric.subset].get(metric.name, math.nan)

    @cached_property
    def subsets(self) -> list[str]:
        """ "all" and the subsets that every run's table has."""
        tables = [self.table_of(run)[THIS_PRIOR] for run in self.runs]
        return [subset for subset in tables[0] if all(subset in table for table in tables)]

    @cached_property
    def context(self) -> dict[str, dict[str, dict[str, float]]]:
        """Baselines, ridge regression and upper bound: {label: {subset: {metric: value}}}; one entry where all runs agree."""
        labelled = {}
        for name in (name for name in ROWS if name != THIS_PRIOR):
            tables: list[tuple[list[str], dict[str, dict[str, float]]]] = []
            for variant in self.variants:
                found = [self.table_of(run) for run in variant.runs.values()]
                for table in (rows[name] for rows in found if name in rows):
                    same = next((names for names, other in tables if agree(table[ALL], other[ALL])), None)
                    if same is None:
                        tables.append(([variant.name], table))
                    elif variant.name not in same:
                        same.append(variant.name)
            for names, table in tables:
                label = LABELS.get(name, name)
                labelled[label if len(tables) == 1 else f"{label}: {'; '.join(names)}"] = table
        return labelled

    @cached_property
    def columns(self) -> list[Metric]:
        """Its metrics for each subset that has them."""
        table = self.table_of(self.runs[0])[THIS_PRIOR]
        return [metric.of(subset) for subset in self.subsets for metric in self.metrics if metric.name in table[subset]]

    def values(self, variant: Variant, column: Metric) -> list[float]:
        return [self.value(run, column) for run in variant.runs.values()]

    def estimate(self, variant: Variant, column: Metric) -> Estimate:
        return over_seeds(self.values(variant, column))

    def difference(self, variant: Variant, column: Metric) -> Estimate:
        pairs = self.pairs(variant)
        if not pairs:
            return NOTHING
        ours, theirs = ([self.value(run, column) for run in runs] for runs in zip(*pairs, strict=True))
        return mean_interval([our - their for our, their in zip(ours, theirs, strict=True)], resolution(ours + theirs))

    def win_rate(self, variant: Variant, column: Metric) -> Estimate:
        """The interval is over images: captions of one image are won or lost together.

        `NOTHING` where the runs were not all measured on the same pairs: those of two sets have the same numbers.
        """
        name, subset = column.pair_value, column.subset
        paired = self.pairs(variant) if name else []
        if not paired or not measured_on_same_pairs([run for two in paired for run in two]):
            return NOTHING
        scores, images = [], np.zeros(0)
        for run, other in paired:
            ours, theirs = run.pairs, other.pairs
            assert ours is not None and theirs is not None
            sign = -1 if name in LOWER_WINS else 1
            taken = (ours["subset"] == subset) | (subset == ALL)
            scores.append(wins(sign * ours[name][taken], sign * theirs[name][taken]))
            images = ours["group"][taken]
        means = np.mean(scores, axis=0)
        known = ~np.isnan(means)
        return rate_interval(means[known], images[known]) if known.any() else NOTHING

    def curve(self, variant: Variant, metric: Metric) -> list[CurvePoint]:
        """Validations that all seeds of a variant have, in order."""
        curves = [run.curve(metric.name, metric.subset) for run in variant.runs.values()]
        points = []
        for step in (step for step in curves[0] if all(step in curve for curve in curves)):
            samples, seconds, values = zip(*(curve[step] for curve in curves), strict=True)
            points.append(CurvePoint(step, sum(samples) / len(samples), sum(seconds) / len(seconds), over_seeds(values)))
        return points


def measured_on_same_pairs(runs: Sequence[RunRecord]) -> bool:
    """Whether the values of each pair of all runs are there, and are of the same pairs of one split of one set of shards."""
    first = runs[0]
    shards = first.fact("shards", "sha256")
    if shards is None or first.pairs is None:
        return False
    return all(
        run.pairs is not None
        and (run.fact("shards", "sha256"), run.fact("stage")) == (shards, first.fact("stage"))
        and np.array_equal(run.pairs["index"], first.pairs["index"])
        for run in runs
    )


def wins(ours: Float[np.ndarray, " pairs"], theirs: Float[np.ndarray, " pairs"]) -> Float[np.ndarray, " pairs"]:
    """1 where ours is higher, ties half. What is not a number loses against a number; NaN where neither is one."""
    won = (ours > theirs) + (ours == theirs) / 2
    won[np.isnan(theirs)] = 1.0
    won[np.isnan(ours)] = 0.0
    won[np.isnan(ours) & np.isnan(theirs)] = np.nan
    return won


def over_seeds(values: Sequence[float]) -> Estimate:
    """Mean of a number over seeds of training."""
    return mean_interval(values, resolution(values))


def resolution(values: Sequence[float]) -> float:
    """What is rounding in numbers that were computed in float32, and far below the share of one pair."""
    return 1e-6 * max(abs(value) for value in values)


def agree(one: dict[str, float], other: dict[str, float]) -> bool:
    """Equal but for rounding."""
    return all(
        math.isclose(value, other[name], rel_tol=1e-4, abs_tol=1e-6) or math.isnan(value) for name, value in one.items()
    )


COSTS = (
    "trained_steps", "samples_seen", "train_pairs", "trained_parameters", "parameters", "train_seconds", "train_kwh",
    "forward_passes", "seconds_per_1000",
)  # fmt: skip
"""The numbers of a `Cost`."""


@dataclass(frozen=True)
class Cost:
    """What a variant took. Times are those of each seed (s) and no estimates: they depend on how busy a machine was.

    NaN or None where a run did not record it. What a benchmark's prior took is that of the run that trained it.
    """

    trained_steps: int | None
    samples_seen: float
    train_pairs: int | None
    trained_parameters: int | None
    parameters: int | None
    train_seconds: list[float]
    train_kwh: list[float]
    forward_passes: int | None
    contrastive_weight: float | None
    relative_weight: float | None
    seconds_per_1000: list[float]
    machine: str

    @classmethod
    def of(cls, variant: Variant) -> Cost:
        runs, first = list(variant.runs.values()), variant.first
        trained = [run.tested or run for run in runs]
        held = [one["pairs"] for one in first.training_data]
        return cls(
            trained_steps=first.measured_step,
            samples_seen=math.fsum(run.total("samples_seen") for run in runs) / len(runs),
            train_pairs=first.config.get("data.init_args.pairs") or (held[0] if len(held) == 1 else None),
            trained_parameters=trained[0].fact("prior", "trained_parameters"),
            parameters=trained[0].fact("prior", "parameters"),
            train_seconds=[run.total("train_seconds") for run in runs],
            train_kwh=[run.train_kwh for run in runs],
            forward_passes=trained[0].fact("sampling", "forward_passes"),
            contrastive_weight=trained[0].fact("prior", "contrastive_weight"),
            relative_weight=trained[0].fact("prior", "relative_weight"),
            seconds_per_1000=[run.fact("sampling", "seconds_per_1000") or math.nan for run in trained],
            machine="; ".join(dict.fromkeys(machine_of(run) for run in trained)),
        )

    def number(self, name: str) -> float:
        """One of `COSTS`, times as means over seeds; NaN where it is not known."""
        value = getattr(self, name)
        if isinstance(value, list):
            return math.fsum(value) / len(value)
        return math.nan if value is None else float(value)


def machine_of(run: RunRecord) -> str:
    """What times depend on, in words."""
    machine = run.fact("machine")
    if not machine:
        return "unknown"
    device = machine["cpu"] if machine["gpu"] == "none used" else machine["gpu"]
    return f"{device}, {machine['threads']} of {machine['cores']} cores, torch {machine['torch']}"
