"""The numbers of a comparison: means over seeds, differences by paired seeds, win rates over pairs, costs, learning curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from eclipse_pl.callbacks.latent import THIS_PRIOR
from eclipse_pl.callbacks.latent_table import FLOORS, ORDER
from eclipse_pl.intervals import Estimate, bootstrap_interval, mean_interval
from eclipse_pl.latent_metrics import ALL
from eclipse_pl.reports.fairness import Problem, problems_of, twice
from eclipse_pl.reports.metric import LOWER_WINS, Metric
from eclipse_pl.reports.run_record import RunRecord, Seeds
from eclipse_pl.reports.run_search import find_runs
from eclipse_pl.reports.variants import Variant, group

COSTS = (
    "trained_steps", "samples_seen", "train_pairs", "trained_parameters", "parameters", "train_seconds", "forward_passes",
    "seconds_per_1000",
)  # fmt: skip
"""The numbers of a `Cost`."""

NOTHING = Estimate(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class CurvePoint:
    """A variant at one validation: means over the seeds that reached it."""

    step: int
    samples: float
    seconds: float
    value: Estimate


@dataclass(frozen=True)
class Cost:
    """What a variant took, and times of each seed (s), which are no estimates: they tell of a machine as busy as it was.

    NaN or None where a run did not record it.
    """

    trained_steps: int
    samples_seen: float
    train_pairs: int | None
    trained_parameters: int | None
    parameters: int | None
    train_seconds: list[float]
    forward_passes: int | None
    seconds_per_1000: list[float]
    machine: str


@dataclass(frozen=True, eq=False)
class Comparison:
    """Variants beside a reference. Everything else is computed from them when it is asked for."""

    variants: list[Variant]
    reference: Variant
    problems: list[Problem]
    remarks: list[str]

    @classmethod
    def of(cls, places: list[str], reference: str | None = None, anyway: bool = False) -> Comparison:
        """Read runs, group them, and refuse what cannot be compared fairly.

        Raises:
            ValueError: no runs; an unfair comparison without ``anyway``; no variant of the reference's name.
        """
        found, remarks = find_runs(places)
        if anyway and (empty := [run for _, run in found if THIS_PRIOR not in run.rows]):
            remarks += [f"{run} is left out: it has not been validated once." for run in empty]
            found = [(number, run) for number, run in found if run not in empty]
            if not found:
                raise ValueError(f"There is nothing to compare: {remarks[-1]}")
        variants, repeated = group(found)
        problems = [*problems_of([run for _, run in found]), *(twice(*runs) for runs in repeated)]
        if problems and not anyway:
            others = f" ({len(problems) - 1} more like this.)" if len(problems) > 1 else ""
            raise ValueError(f"{problems[0].sentence}{others} With --anyway it is compared and marked.")
        return cls(variants, named(variants, reference), problems, remarks)

    @property
    def runs(self) -> list[RunRecord]:
        return [run for variant in self.variants for run in variant.runs.values()]

    @property
    def others(self) -> list[Variant]:
        """All variants but the reference."""
        return [variant for variant in self.variants if variant is not self.reference]

    @cached_property
    def subsets(self) -> list[str]:
        """ "all" and the subsets that every run's table has."""
        tables = [run.rows[THIS_PRIOR] for run in self.runs]
        return [subset for subset in tables[0] if all(subset in table for table in tables)]

    @cached_property
    def beside(self) -> dict[str, dict[str, dict[str, float]]]:
        """Floors, ridge regression and ceiling: {label: {subset: {metric: value}}}; one row where all runs agree on it."""
        rows = {}
        for name in (name for name in ORDER if name != THIS_PRIOR):
            tables: list[tuple[list[str], dict[str, dict[str, float]]]] = []
            for variant in self.variants:
                for table in (run.rows[name] for run in variant.runs.values() if name in run.rows):
                    same = next((names for names, other in tables if agree(table[ALL], other[ALL])), None)
                    if same is None:
                        tables.append(([variant.name], table))
                    elif variant.name not in same:
                        same.append(variant.name)
            for names, table in tables:
                label = FLOORS.get(name, name)
                rows[label if len(tables) == 1 else f"{label}: {'; '.join(names)}"] = table
        return rows

    def is_marked(self, variant: Variant) -> bool:
        """True where a run of it could not be compared fairly."""
        return any(problem.run in variant.runs.values() for problem in self.problems)

    def estimate(self, variant: Variant, metric: Metric, subset: str = ALL) -> Estimate:
        """Mean over seeds."""
        values = [value_of(run, metric, subset) for run in variant.runs.values()]
        return mean_interval(values, resolution(values))

    def paired_seeds(self, variant: Variant) -> list[Seeds]:
        return [seeds for seeds in variant.runs if seeds in self.reference.runs]

    def difference(self, variant: Variant, metric: Metric, subset: str = ALL) -> Estimate:
        """Mean over paired seeds of the variant less the reference; nothing where they share no seed."""
        seeds = self.paired_seeds(variant)
        if variant is self.reference or not seeds:
            return NOTHING
        ours = [value_of(variant.runs[one], metric, subset) for one in seeds]
        theirs = [value_of(self.reference.runs[one], metric, subset) for one in seeds]
        return mean_interval([our - their for our, their in zip(ours, theirs, strict=True)], resolution(ours + theirs))

    def win_rate(self, variant: Variant, column: str, subset: str = ALL) -> Estimate:
        """How often a pair is better than under the reference with the same seed; its interval is one over pairs."""
        scores = []
        for seeds in self.paired_seeds(variant) if variant is not self.reference else ():
            ours, theirs = variant.runs[seeds].pairs, self.reference.runs[seeds].pairs
            if ours is None or theirs is None or not np.array_equal(ours["index"], theirs["index"]):
                return NOTHING
            sign = -1 if column in LOWER_WINS else 1
            taken = (ours["subset"] == subset) | (subset == ALL)
            scores.append(wins(sign * ours[column][taken], sign * theirs[column][taken]))
        if not scores:
            return NOTHING
        over_seeds = np.mean(scores, axis=0)
        return bootstrap_interval(over_seeds[~np.isnan(over_seeds)])

    def cost(self, variant: Variant) -> Cost:
        runs, first = list(variant.runs.values()), variant.first
        pairs = first.config.get("data.init_args.pairs") or first.fact("shards", "pairs", "train")
        machines = dict.fromkeys(machine_of(run) for run in runs)
        return Cost(
            trained_steps=first.step,
            samples_seen=math.fsum(run.total("samples_seen") for run in runs) / len(runs),
            train_pairs=pairs,
            trained_parameters=first.fact("prior", "trained_parameters"),
            parameters=first.fact("prior", "parameters"),
            train_seconds=[run.total("train_seconds") for run in runs],
            forward_passes=first.fact("sampling", "forward_passes"),
            seconds_per_1000=[run.fact("sampling", "seconds_per_1000") or math.nan for run in runs],
            machine="; ".join(machines),
        )

    def cost_number(self, variant: Variant, name: str) -> float:
        """One of `COSTS`, times as means over seeds; NaN where it is not known."""
        value = getattr(self.cost(variant), name)
        if isinstance(value, list):
            return math.fsum(value) / len(value)
        return math.nan if value is None else float(value)

    def curve(self, variant: Variant, metric: Metric, subset: str = ALL) -> list[CurvePoint]:
        """Validations that all seeds of a variant have, in order."""
        curves = [run.curve(metric.name, subset) for run in variant.runs.values()]
        points = []
        for step in (step for step in curves[0] if all(step in curve for curve in curves)):
            samples, seconds, values = zip(*(curve[step] for curve in curves), strict=True)
            estimate = mean_interval(values, resolution(values))
            points.append(CurvePoint(step, sum(samples) / len(samples), sum(seconds) / len(seconds), estimate))
        return points


def wins(ours: Float[np.ndarray, "pairs"], theirs: Float[np.ndarray, "pairs"]) -> Float[np.ndarray, "pairs"]:
    """1 where ours is higher, ties half. What is not a number loses against a number; NaN where neither is one."""
    won = (ours > theirs) + (ours == theirs) / 2
    won[np.isnan(theirs)] = 1.0
    won[np.isnan(ours)] = 0.0
    won[np.isnan(ours) & np.isnan(theirs)] = np.nan
    return won


def value_of(run: RunRecord, metric: Metric, subset: str) -> float:
    return run.rows[THIS_PRIOR][subset][metric.name]


def resolution(values: Sequence[float]) -> float:
    """What is rounding in metrics that were computed in float32, and far below the share of one pair."""
    return 1e-6 * max(abs(value) for value in values)


def agree(one: dict[str, float], other: dict[str, float]) -> bool:
    """Equal but for rounding."""
    return all(
        math.isclose(value, other[name], rel_tol=1e-4, abs_tol=1e-6) or math.isnan(value) for name, value in one.items()
    )


def machine_of(run: RunRecord) -> str:
    """What times depend on, in words."""
    machine = run.fact("machine")
    if not machine:
        return "unknown"
    device = machine["cpu"] if machine["gpu"] == "none used" else machine["gpu"]
    return f"{device}, {machine['threads']} of {machine['cores']} cores, torch {machine['torch']}"


def named(variants: list[Variant], name: str | None) -> Variant:
    """The reference: the first variant, the one of that name, or the only one whose name contains it."""
    if name is None:
        return variants[0]
    for fits in (lambda variant: variant.name == name, lambda variant: name in variant.name):
        chosen = [variant for variant in variants if fits(variant)]
        if len(chosen) == 1:
            return chosen[0]
    raise ValueError(
        f"--reference {name!r} names {'no variant' if not chosen else 'several variants'}; "
        f"they are: {'; '.join(variant.name for variant in variants)}."
    )
