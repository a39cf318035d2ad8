"""What may not be concluded from latent metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence

from eclipse_pl.data.subset_names import ALL
from eclipse_pl.intervals import Estimate
from eclipse_pl.latent.metrics import LABELS
from eclipse_pl.reports.caveats.common import enumerate_names, few_seeds, on_differences, on_pairing, on_sampling
from eclipse_pl.reports.latent_comparison import LatentComparison, machine_of
from eclipse_pl.reports.metrics import METRICS, Metric
from eclipse_pl.reports.report import Report
from eclipse_pl.reports.run_record import RunRecord
from eclipse_pl.reports.variants import Variant


def latent_caveats(latent: LatentComparison, metrics: Sequence[Metric]) -> list[str]:
    return [
        *on_seeds(latent),
        *on_pairing(latent),
        *on_latent_differences(latent, metrics),
        *on_missing_numbers(latent),
        *on_costs(latent),
        *on_latent_scope(latent),
        *on_sampling(latent),
    ]


def on_seeds(latent: LatentComparison) -> list[str]:
    counts = {variant.name: len(variant.runs) for variant in latent.variants}
    single = [name for name, count in counts.items() if count == 1]
    several = [count for count in counts.values() if count > 1]
    found = []
    if single:
        which = "every row" if len(single) == len(counts) else enumerate_names(single)
        found.append(f"n = 1 seed ({which}): no interval. A difference from such a row may be the luck of one seed.")
    if several and min(several) < 5:
        found.append(few_seeds(min(several)))
    return found


def on_latent_differences(latent: LatentComparison, metrics: Sequence[Metric], everything: str = "all metrics") -> list[str]:
    def differences(variant: Variant) -> dict[str, Estimate]:
        return {metric.name: latent.difference(variant, metric) for metric in metrics if metric.better != "none"}

    read = sum(one.has_interval for variant in latent.others for one in differences(variant).values())
    return on_differences(latent, differences, everything, "these seeds", read)


def on_missing_numbers(latent: LatentComparison) -> list[str]:
    """Metrics that are no numbers although they can be measured here."""
    bound = latent.context.get("upper bound", {}).get(ALL, {})

    def missing(run: RunRecord, metric: Metric) -> bool:
        return math.isnan(latent.value(run, metric)) and not math.isnan(bound.get(metric.name, 0.0))

    found = {run: [metric.name for metric in METRICS if missing(run, metric)] for run in latent.runs}
    return [
        f"{run} has no number for {', '.join(names)}: its variant has none either." for run, names in found.items() if names
    ]


def on_costs(latent: LatentComparison) -> list[str]:
    found = []
    machines = dict.fromkeys(machine_of(run) for run in latent.runs)
    if len(machines) > 1:
        found.append(
            f"Times were measured on {len(machines)} machines or settings ({'; '.join(machines)}): do not compare them."
        )
    for run in latent.runs:
        trained = run.fact("trained_steps")
        if trained is not None and trained > run.step:
            found.append(
                f"{run} was measured after step {run.step} and trained to step {trained}: its last steps are not measured."
            )
    return found


def on_latent_scope(latent: LatentComparison) -> list[str]:
    pairs = latent.reference.first.fact("pairs")
    found = [f"All of it holds for {f'these {pairs:,} pairs' if pairs else 'this split'}, and not for other data."]
    if latent.others and max(len(variant.runs) for variant in latent.variants) > 1:
        found.append(
            "Intervals of means and differences are over training seeds, those of win rates over images with fixed seeds."
        )
    return [*found, "These metrics are of embeddings. Only a decoder and scorers can show whether images get better."]


def on_distributions(report: Report) -> list[str]:
    """Runs that the tables of distributions lack, and what their metrics do not say."""
    if (distribution := report.distribution) is None or report.latent is None:
        return []
    runs = report.latent.runs
    without = [str(run) for run in runs if run.samples is None]
    found = on_latent_differences(distribution, report.sampled, "all metrics of samples")
    if without:
        found.append(
            f"{len(without)} of {len(runs)} runs were measured without latent.samples, and are not in the tables of "
            f"distributions: {enumerate_names(without)}."
        )
    # one row of each bound, where runs of several sets, or with and without latent.redraws, stand together
    bounds = [table.get(ALL, {}) for row, table in distribution.context.items() if row.startswith(LABELS["upper_bound"])]
    redrawn = [bound for bound in bounds if not math.isclose(bound.get("spread", 0.0), 0.0, abs_tol=1e-6)]
    if redrawn:
        found.append(
            "An upper bound of distributions with a spread holds images drawn anew for each caption: its spread is the true "
            "one, and a variant's energy score less that of this row is half its energy distance to the truth."
        )
    else:
        found.append(
            "The upper bound of distributions is the true image itself: no prior reaches its energy score of 0, because a "
            "caption does not determine its image, and a spread of 0 is not a goal."
        )
    return found
