"""What may not be concluded from latent numbers, in sentences for whoever reads their table."""

from __future__ import annotations

import math

from eclipse_pl.latent_metrics import ALL
from eclipse_pl.reports.costs import Cost, machine_of
from eclipse_pl.reports.latent_comparison import LatentComparison, value_of
from eclipse_pl.reports.metric import METRICS, Metric
from eclipse_pl.reports.seed_caveats import enumerate_names, few_seeds, on_intervals, on_pairing, on_sampling


def latent_caveats(latent: LatentComparison, metrics: tuple[Metric, ...] = METRICS) -> list[str]:
    """The most important first; each holds for this comparison."""
    return [
        *on_seeds(latent),
        *on_pairing(latent),
        *on_differences(latent, metrics),
        *on_numbers(latent),
        *on_costs(latent),
        *on_scope(latent),
        *on_sampling(latent),
    ]


def on_seeds(latent: LatentComparison) -> list[str]:
    counts = {variant.name: len(variant.runs) for variant in latent.variants}
    single = [name for name, count in counts.items() if count == 1]
    said = []
    if single:
        which = "every row" if len(single) == len(counts) else enumerate_names(single)
        said.append(f"n = 1 seed ({which}): no interval. A difference from such a row may be the luck of one seed.")
    several = [count for count in counts.values() if count > 1]
    if several and min(several) < 5:
        n = min(several)
        said.append(few_seeds(n))
    return said


def on_differences(latent: LatentComparison, metrics: tuple[Metric, ...]) -> list[str]:
    """Which differences the intervals do not tell from nothing, and how many intervals are read at once."""
    scored = [metric for metric in metrics if metric.better != "none"]
    unclear, read = [], 0
    for variant in latent.others:
        known = {metric.name: latent.difference(variant, metric) for metric in scored}
        known = {name: difference for name, difference in known.items() if difference.has_interval}
        read += len(known)
        names = [name for name, difference in known.items() if not difference.excludes_zero]
        if names:
            unclear.append(f"{variant.name} ({'all metrics' if len(names) == len(scored) else ', '.join(names)})")
    return on_intervals(latent, unclear, read, "these seeds")


def on_numbers(latent: LatentComparison) -> list[str]:
    """Metrics that are no numbers although they can be measured here."""
    upper_bound = latent.beside.get("upper_bound", {}).get(ALL, {})
    said = []
    for variant in latent.variants:
        for run in variant.runs.values():
            broken = [m for m in METRICS if math.isnan(value_of(run, m, ALL)) and not math.isnan(upper_bound.get(m.name, 0.0))]
            if broken:
                said.append(f"{run} has no number for {', '.join(metric.name for metric in broken)}: neither has its variant.")
    return said


def on_costs(latent: LatentComparison) -> list[str]:
    said = []
    machines = dict.fromkeys(machine_of(run) for run in latent.runs)
    if len(machines) > 1:
        said.append(
            f"Times were measured on {len(machines)} machines or settings ({'; '.join(machines)}): do not compare them."
        )
    seen = dict.fromkeys(Cost.of(variant).samples_seen for variant in latent.variants)
    known = sorted(samples for samples in seen if not math.isnan(samples))
    if len(known) > 1:
        said.append(f"Training was not equally long: the variants saw {known[0]:,.0f} to {known[-1]:,.0f} pairs.")
    for run in latent.runs:
        trained = run.fact("trained_steps")
        if trained is not None and trained > run.step:
            said.append(f"{run} was measured after step {run.step} and trained to step {trained}: its last steps do not show.")
    return said


def on_scope(latent: LatentComparison) -> list[str]:
    pairs = latent.reference.first.fact("pairs")
    said = [f"All of it holds for {f'these {pairs:,} pairs' if pairs else 'this split'}: it does not speak of other data."]
    if latent.others and max(len(variant.runs) for variant in latent.variants) > 1:
        said.append("Intervals of means and differences are over training seeds; those of win rates over images, seeds fixed.")
    return [*said, "These metrics are of embeddings. Whether images get better, a decoder and scorers must say."]
