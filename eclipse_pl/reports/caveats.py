"""What may not be concluded from a comparison, in sentences for whoever reads its table."""

from __future__ import annotations

import math

from eclipse_pl.intervals import t_quantile
from eclipse_pl.latent_metrics import ALL
from eclipse_pl.reports.comparison import Comparison, machine_of, value_of
from eclipse_pl.reports.metric import METRICS, Metric
from eclipse_pl.reports.run_record import Seeds

NAMED = 6
"""So many variants are named in one sentence; the tables have all."""


def caveats(comparison: Comparison, metrics: tuple[Metric, ...] = METRICS) -> list[str]:
    """The most important first; each holds for this comparison."""
    return [
        *on_seeds(comparison),
        *on_differences(comparison, metrics),
        *on_numbers(comparison),
        *on_costs(comparison),
        *on_scope(comparison),
        *on_sampling(comparison),
        *comparison.remarks,
    ]


def on_seeds(comparison: Comparison) -> list[str]:
    counts = {variant.name: len(variant.runs) for variant in comparison.variants}
    single = [name for name, count in counts.items() if count == 1]
    said = []
    if single:
        which = "every row" if len(single) == len(counts) else enumerate_names(single)
        said.append(f"n = 1 seed ({which}): no interval. A difference from such a row may be the luck of one seed.")
    several = [count for count in counts.values() if count > 1]
    if several and min(several) < 5:
        n = min(several)
        factor = t_quantile(0.975, n - 1)
        said.append(
            f"n = {n} seeds: the 95 % interval is {factor:.1f} standard errors to each side, and right only if results vary "
            f"normally over seeds, which {n} of them cannot show."
        )
    reference = comparison.reference
    for variant in comparison.others:
        common = comparison.paired_seeds(variant)
        if not common:
            said.append(f"{variant.name} and {reference.name} share no seed: there is no paired difference between them.")
        elif set(variant.runs) != set(reference.runs):
            said.append(
                f"{variant.name} has seeds {enumerate_seeds(list(variant.runs))}, {reference.name} has "
                f"{enumerate_seeds(list(reference.runs))}: their difference is over the {len(common)} in common."
            )
    return said


def on_differences(comparison: Comparison, metrics: tuple[Metric, ...]) -> list[str]:
    """Which differences the intervals do not tell from nothing, and how many intervals are read at once."""
    said = []
    judged = [metric for metric in metrics if metric.better != "none"]
    unclear, read = [], 0
    for variant in comparison.others:
        known = {metric.name: comparison.difference(variant, metric) for metric in judged}
        known = {name: difference for name, difference in known.items() if difference.has_interval}
        read += len(known)
        names = [name for name, difference in known.items() if not difference.excludes_zero]
        if names:
            unclear.append(f"{variant.name} ({'all metrics' if len(names) == len(judged) else ', '.join(names)})")
    if unclear:
        said.append(f"Not told apart from {comparison.reference.name} by these seeds: {enumerate_names(unclear)}.")
    if read > 10:
        said.append(
            f"The table of differences holds {read} intervals, each wrong once in 20: expect about {max(1, round(read / 20))} "
            "to miss by chance."
        )
    return said


def on_numbers(comparison: Comparison) -> list[str]:
    """Metrics that are no numbers although they can be measured here."""
    ceiling = comparison.beside.get("ceiling", {}).get(ALL, {})
    said = []
    for variant in comparison.variants:
        for run in variant.runs.values():
            broken = [m for m in METRICS if math.isnan(value_of(run, m, ALL)) and not math.isnan(ceiling.get(m.name, 0.0))]
            if broken:
                said.append(f"{run} has no number for {', '.join(metric.name for metric in broken)}: neither has its variant.")
    return said


def on_costs(comparison: Comparison) -> list[str]:
    said = []
    machines = dict.fromkeys(machine_of(run) for run in comparison.runs)
    if len(machines) > 1:
        said.append(
            f"Times were measured on {len(machines)} machines or settings ({'; '.join(machines)}): do not compare them."
        )
    seen = dict.fromkeys(comparison.cost(variant).samples_seen for variant in comparison.variants)
    known = sorted(samples for samples in seen if not math.isnan(samples))
    if len(known) > 1:
        said.append(f"Training was not equally long: the variants saw {known[0]:,.0f} to {known[-1]:,.0f} pairs.")
    for run in comparison.runs:
        trained = run.fact("trained_steps")
        if trained is not None and trained > run.step:
            said.append(f"{run} was measured after step {run.step} and trained to step {trained}: its last steps do not show.")
    return said


def on_sampling(comparison: Comparison) -> list[str]:
    """One sentence for each setting that runs were measured with and not trained with: a sweep of it is many runs."""
    runs = comparison.runs
    changed = {key: [run for run in runs if key in run.resampled] for run in runs for key in run.resampled}
    return [
        f"{key} is that of the measurement, not of training, in {len(those)} of {len(runs)} runs, such as {those[0]} "
        f"(measured with {those[0].resampled[key][0]}, trained with {those[0].resampled[key][1]})."
        for key, those in changed.items()
    ]


def on_scope(comparison: Comparison) -> list[str]:
    pairs = comparison.reference.first.fact("pairs")
    said = [f"All of it holds for {f'these {pairs:,} pairs' if pairs else 'this split'}: it does not speak of other data."]
    if comparison.others and max(len(variant.runs) for variant in comparison.variants) > 1:
        said.append("Intervals of means and differences are over training seeds; those of win rates over pairs, seeds fixed.")
    return [*said, "These metrics are of embeddings. Whether pictures get better, a decoder and judges must say."]


def enumerate_names(names: list[str]) -> str:
    rest = len(names) - NAMED
    return "; ".join(names[:NAMED]) + (f"; and {rest} more" if rest > 0 else "")


def enumerate_seeds(seeds: list[Seeds]) -> str:
    """``0, 1, 2``; both where the run's and the data's differ."""
    return ", ".join("/".join(str(part) for part in dict.fromkeys(part for part in one if part is not None)) for one in seeds)
