"""The numbers of a comparison as CSV: a line for each variant, subset and metric."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from eclipse_pl.intervals import Estimate
from eclipse_pl.reports.comparison import Comparison
from eclipse_pl.reports.latent_comparison import COSTS, Cost, LatentComparison
from eclipse_pl.reports.report import Report
from eclipse_pl.reports.variants import Variant, plain

PARTS = ("n", "mean", "low", "high", "interval")
Line = dict[str, Any]


def numbers_csv(report: Report) -> str:
    """Means, differences by paired seeds and win rates with their intervals; baselines, bounds and costs too.

    Scores have the name under which they are logged. ``n`` counts what the interval is ``over``: seeds of training, prompts or
    images. ``difference_n`` counts what that of the difference is over, ``difference_over``: seeds where several trainings are
    paired. ``win_rate_n`` counts images or prompts. ``interval`` names its method, or the reason why there is none. Numbers
    that do not exist are empty. Settings are those in which variants differ, by their dotted keys.
    """
    lines = [*(latent_lines(report.latent) if report.latent else [])]
    if (distribution := report.distribution) is not None:
        lines += [*lines_of(distribution, distribution.columns), *context_lines(distribution)]
    if report.scores is not None:
        lines += lines_of(report.scores, report.scores.all_columns)
    header = ["variant", *report.comparison.keys, "subset", "metric", "over", *PARTS]
    header += ["difference_over", *(f"{prefix}{part}" for prefix in ("difference_", "win_rate_") for part in PARTS)]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*header, "marked"], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def latent_lines(latent: LatentComparison) -> list[Line]:
    """Metrics of every subset; then costs, baselines and bounds."""
    lines = lines_of(latent, latent.columns)
    for variant in latent.variants:
        cost = Cost.of(variant)
        numbers = {name: cost.number(name) for name in COSTS}
        named = name_and_settings(latent, variant)
        lines += [{**named, "metric": name, "mean": "" if math.isnan(one) else one} for name, one in numbers.items()]
    return lines + context_lines(latent)


def context_lines(latent: LatentComparison) -> list[Line]:
    """Baselines and bounds."""
    return [
        {"variant": name, "subset": subset, "metric": metric, "mean": "" if math.isnan(mean) else mean}
        for name, table in latent.context.items()
        for subset, metrics in table.items()
        for metric, mean in metrics.items()
    ]


def lines_of(comparison: Comparison, columns: Sequence[Any]) -> list[Line]:
    lines: list[Line] = []
    for variant in comparison.variants:
        named = name_and_settings(comparison, variant)
        for column in columns:
            line = {**named, "subset": column.subset, "metric": column.name, "over": comparison.over(variant, column)}
            line |= parts("", comparison.estimate(variant, column))
            if difference := parts("difference_", comparison.difference(variant, column)):
                line |= {"difference_over": comparison.difference_over(variant, column), **difference}
            lines.append(line | parts("win_rate_", comparison.win_rate(variant, column)))
    return lines


def name_and_settings(comparison: Comparison, variant: Variant) -> dict[str, Any]:
    settings = {key: plain(value) for key, value in variant.settings.items()}
    return {"variant": variant.name, "marked": "yes" if comparison.is_marked(variant) else "", **settings}


def parts(prefix: str, estimate: Estimate) -> dict[str, Any]:
    values = {"mean": estimate.mean, "low": estimate.low, "high": estimate.high}
    known = {f"{prefix}{name}": value for name, value in values.items() if not math.isnan(value)}
    return {f"{prefix}n": estimate.n, **known, f"{prefix}interval": estimate.method} if estimate.n else {}
