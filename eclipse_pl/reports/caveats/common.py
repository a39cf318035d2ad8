"""What may not be concluded from scores and latent metrics alike."""

from __future__ import annotations

import math
from collections.abc import Callable

from eclipse_pl.intervals import Estimate, t_quantile
from eclipse_pl.reports.comparison import Comparison
from eclipse_pl.reports.run_record import Seeds
from eclipse_pl.reports.variants import Variant, names_of_sets, trained_on

NAMED = 6
"""Variants that one sentence names; the tables have all."""


def on_schedules(comparison: Comparison) -> list[str]:
    """A prior is ranked by its last steps more than by its first."""
    early = []
    for run in comparison.runs:
        measured = run.measured_step
        step, length = (run.tested or run).step if measured is None else measured, run.schedule_steps
        if length is not None and step < length:
            early.append(f"{run} (step {step:,} of {length:,})")
    if not early:
        return []
    return [
        f"The schedule of the learning rate was not finished in {len(early)} of {len(comparison.runs)} runs: "
        f"{enumerate_names(early)}. The order of the variants may differ at its end."
    ]


def on_checkpoints(comparison: Comparison) -> list[str]:
    """Seeds of a variant that were measured after different numbers of steps, such as each at its best."""
    steps = {
        variant.name: {step for run in variant.runs.values() if (step := run.measured_step) is not None}
        for variant in comparison.variants
    }
    return [
        f"The seeds of {name} were measured after different numbers of training steps, {min(those):,} to {max(those):,}."
        for name, those in steps.items()
        if len(those) > 1
    ]


def on_training_data(comparison: Comparison) -> list[str]:
    """Runs that learned from different pairs, or from pairs that are not known."""
    trained = [run for run in comparison.runs if run.has_seeds]
    names = names_of_sets(trained)
    sets: dict[str, list[str]] = {}
    for run in trained:
        sets.setdefault(trained_on(run, names), []).append(str(run))
    if len(sets) < 2:
        return []
    which = [f"{name} ({len(runs)} of {len(trained)} runs, such as {runs[0]})" for name, runs in sets.items()]
    return [f"Training data were not equal: {enumerate_names(which)}. A difference may be that of the data."]


def on_lengths(comparison: Comparison) -> list[str]:
    """Variants that saw different numbers of pairs, as far as these were logged."""
    seen = [[run.total("samples_seen") for run in variant.runs.values()] for variant in comparison.variants]
    means = sorted(mean for samples in seen if not math.isnan(mean := math.fsum(samples) / len(samples)))
    if not means or means[0] == means[-1]:
        return []
    return [f"Training was not equally long: the variants saw {means[0]:,.0f} to {means[-1]:,.0f} pairs."]


def on_teachers(comparison: Comparison) -> list[str]:
    """Runs that learned from the samples of another prior, and not from embeddings of images."""
    taught: dict[str, list[str]] = {}
    for run in comparison.runs:
        for teacher in dict.fromkeys(one["teacher"] for one in run.training_data if "teacher" in one):
            taught.setdefault(teacher, []).append(str(run))
    return [
        f"{len(names)} of {len(comparison.runs)} runs were trained on the samples of {teacher}, and not on embeddings of "
        f"images: {enumerate_names(names)}. They learn the errors of that prior too."
        for teacher, names in taught.items()
    ]


def on_pairing(comparison: Comparison) -> list[str]:
    """Seeds of training that a variant and the reference do not share."""
    found = []
    reference = comparison.reference
    for variant in comparison.others:
        if not (variant.first.has_seeds and reference.first.has_seeds):
            continue
        common = len(comparison.pairs(variant))
        if not common:
            found.append(f"{variant.name} and {reference.name} share no seed: there is no paired difference between them.")
        elif set(variant.runs) != set(reference.runs):
            found.append(
                f"{variant.name} has seeds {enumerate_seeds(list(variant.runs))}, {reference.name} has "
                f"{enumerate_seeds(list(reference.runs))}: their difference is over the {common} in common."
            )
    return found


def on_differences(
    comparison: Comparison, differences: Callable[[Variant], dict[str, Estimate]], everything: str, by: str, read: int
) -> list[str]:
    """Differences whose intervals hold 0, and the number of intervals that are read at once."""
    found, unclear = [], []
    for variant in comparison.others:
        known = differences(variant)
        names = [name for name, one in known.items() if one.has_interval and not one.excludes_zero]
        if names:
            unclear.append(f"{variant.name} ({everything if len(names) == len(known) else ', '.join(names)})")
    if unclear:
        found.append(f"Not separated from {comparison.reference.name} by {by}: {enumerate_names(unclear)}.")
    if read > 10:
        found.append(
            f"The tables of differences hold {read} intervals, each at 95 %: expect about {max(1, round(read / 20))} "
            "to miss the true value by chance."
        )
    return found


def on_sampling(comparison: Comparison) -> list[str]:
    """A sentence for each setting with which runs were measured and not trained, unless it is what is studied."""
    runs = comparison.runs
    changed = {key: [run for run in runs if key in run.resampled] for run in runs for key in run.resampled}
    return [
        f"{key} is that of the measurement, not of training, in {len(those)} of {len(runs)} runs, such as {those[0]} "
        f"(measured with {those[0].resampled[key][0]}, trained with {those[0].resampled[key][1]})."
        for key, those in changed.items()
        if key not in comparison.studied
    ]


def few_seeds(n: int) -> str:
    return (
        f"n = {n} seeds: the 95 % interval is {t_quantile(n - 1):.1f} standard errors to each side, and right only if results "
        f"vary normally over seeds, which {n} of them cannot show."
    )


def enumerate_names(names: list[str]) -> str:
    rest = len(names) - NAMED
    return "; ".join(names[:NAMED]) + (f"; and {rest} more" if rest > 0 else "")


def enumerate_seeds(seeds: list[Seeds]) -> str:
    """``0, 1, 2``; both where the run's and the data's differ."""
    return ", ".join("/".join(str(part) for part in dict.fromkeys(part for part in one if part is not None)) for one in seeds)
