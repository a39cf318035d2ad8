"""The tables of latent numbers and costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from eclipse_pl.data.subset_names import ALL
from eclipse_pl.intervals import RATES
from eclipse_pl.latent.distribution import MOST_IMAGES
from eclipse_pl.reports.distribution_comparison import DistributionComparison
from eclipse_pl.reports.latent_comparison import Cost, LatentComparison
from eclipse_pl.reports.metrics import PAIR_VALUES, Metric
from eclipse_pl.reports.tables import (
    Table,
    TableRow,
    count,
    decimals_of,
    difference_texts,
    estimate_texts,
    heading,
    number,
    paired,
    percent,
    rows_of,
    span,
)


def main_table(latent: LatentComparison, metrics: Sequence[Metric], subset: str = ALL) -> Table:
    """Means over seeds with their intervals; baselines and ridge regression above them, the upper bound below."""
    metrics = [metric.of(subset) for metric in metrics]
    seeds = [str(len(variant.runs)) for variant in latent.variants]
    others = [
        TableRow(name, ["", *(context_text(latent, metric, table) for metric in metrics)], "context")
        for name, table in latent.context.items()
    ]
    below = [row for row in others if row.name.startswith("upper bound")]
    return Table(
        "Metrics" if subset == ALL else f"Metrics, {subset} pairs",
        ["seeds", *(heading(metric.name, metric.better) for metric in metrics)],
        [
            *(row for row in others if row not in below),
            *rows_of(latent, latent.variants, [seeds, *(estimate_texts(latent, metric) for metric in metrics)]),
            *below,
        ],
        "Mean over seeds ± half-width of its 95 % t-interval; no ± where there is one seed, or all seeds give the same.",
        ["", *(metric.warning for metric in metrics)],
    )


def context_text(latent: LatentComparison, metric: Metric, table: dict[str, dict[str, float]]) -> str:
    """A number of a baseline or bound, in the decimals of the variants."""
    if metric.subset not in table:
        return "–"
    decimals = decimals_of([latent.estimate(variant, metric) for variant in latent.variants])
    return number(table[metric.subset].get(metric.name, math.nan), decimals)


def difference_table(latent: LatentComparison, metrics: Sequence[Metric], subset: str = ALL) -> Table:
    """Every variant minus the reference, by paired seeds."""
    texts = [difference_texts(latent, metric.of(subset)) for metric in metrics]
    return Table(
        f"Difference from {latent.reference.name}",
        ["paired seeds", *(heading(metric.name, metric.better) for metric in metrics)],
        rows_of(latent, latent.others, [paired(latent), *texts]),
        "Mean over paired seeds ± half-width of its 95 % t-interval. ▲ better, ▼ worse, ◆ other: intervals that leave out 0. "
        "No sign: the seeds do not separate the two.",
    )


def distribution_tables(distribution: DistributionComparison, metrics: Sequence[Metric], subset: str = ALL) -> list[Table]:
    """The metrics of samples, and their differences. Those of sets of predictions have the whole split alone."""
    metrics = [metric for metric in metrics if metric.of(subset) in distribution.columns]
    counts = " or ".join(map(str, distribution.samples))
    title = f"Distribution, {counts} samples a caption" + ("" if subset == ALL else f", {subset} pairs")
    note = (
        "Mean over seeds ± half-width of its 95 % t-interval. Of a single seed: [95 % interval] over images, with the weights "
        "as they are."
    )
    if distribution.reference.first.fact("distribution", "neighbourhoods") == MOST_IMAGES:
        note += f" Density and coverage are those of {MOST_IMAGES:,} of the images, the same ones in every row."
    found = [replace(main_table(distribution, metrics, subset), title=title, note=note)]
    if distribution.others:
        difference = difference_table(distribution, metrics, subset)
        found.append(replace(difference, title=f"{difference.title}: {title[0].lower()}{title[1:]}"))
    return found


def win_table(latent: LatentComparison) -> Table:
    """Win rates over pairs and paired seeds."""
    rates = [[percent(latent.win_rate(variant, metric)) for variant in latent.others] for metric in PAIR_VALUES.values()]
    return Table(
        f"Win rate against {latent.reference.name}",
        ["paired seeds", *PAIR_VALUES],
        rows_of(latent, latent.others, [paired(latent), *rates]),
        "Share of pairs that are better than under the reference with the same seed, ties half; brackets: 95 % interval over "
        f"images, with the seeds as they are ({RATES}). Captions of one image are won or lost together.",
    )


def weight(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def was_metered(cost: Cost) -> bool:
    return not all(map(math.isnan, cost.train_kwh))


def cost_table(latent: LatentComparison) -> Table:
    costs = [Cost.of(variant) for variant in latent.variants]
    columns = {
        "trained parameters": [count(cost.trained_parameters) for cost in costs],
        "all parameters": [count(cost.parameters) for cost in costs],
        "steps": [count(cost.trained_steps) for cost in costs],
        "pairs seen": [count(cost.samples_seen) for cost in costs],
        "distinct pairs": [count(cost.train_pairs) for cost in costs],
        "training, s": [span(cost.train_seconds, 0) for cost in costs],
        **({"training, kWh": [span(cost.train_kwh, 4) for cost in costs]} if any(map(was_metered, costs)) else {}),
        "forward passes an embedding": [count(cost.forward_passes) for cost in costs],
        "lambda": [weight(cost.contrastive_weight) for cost in costs],
        "relative weight": [weight(cost.relative_weight) for cost in costs],
        "s per 1,000 embeddings": [span(cost.seconds_per_1000, 2) for cost in costs],
    }
    return Table(
        "Cost",
        list(columns),
        rows_of(latent, latent.variants, list(columns.values())),
        "Times: mean over seeds, and the range; without validation, over all resumes. Measured on: "
        f"{'; '.join(dict.fromkeys(cost.machine for cost in costs))}.",
    )
