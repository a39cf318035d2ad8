"""The numbers of a comparison as CSV: a row a variant, subset and metric."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

from eclipse_pl.intervals import Estimate
from eclipse_pl.reports.comparison import COSTS, Comparison
from eclipse_pl.reports.metric import METRICS
from eclipse_pl.reports.variants import plain


def numbers_csv(comparison: Comparison) -> str:
    """Means, differences by paired seeds and win rates with their intervals; floors, ridge regression, ceiling and costs too.

    Empty cells are numbers that there are not. Settings are those in which variants differ, by their dotted keys.
    """
    keys = list(dict.fromkeys(key for variant in comparison.variants for key in variant.settings))
    rows: list[dict[str, Any]] = []
    for variant in comparison.variants:
        settings = {key: plain(value) for key, value in variant.settings.items()}
        named = {"variant": variant.name, "marked": "yes" if comparison.is_marked(variant) else "", **settings}
        for subset in comparison.subsets:
            for metric in METRICS:
                row = {**named, "subset": subset, "metric": metric.name}
                row |= columns("", comparison.estimate(variant, metric, subset))
                row |= columns("difference_", comparison.difference(variant, metric, subset))
                if metric.column:
                    row |= columns("win_rate_", comparison.win_rate(variant, metric.column, subset))
                rows.append(row)
        for cost in COSTS:
            value = comparison.cost_number(variant, cost)
            rows.append({**named, "metric": cost, "mean": "" if math.isnan(value) else value})
    for name, table in comparison.beside.items():
        for subset, metrics in table.items():
            rows += [{"variant": name, "subset": subset, "metric": metric, "mean": value} for metric, value in metrics.items()]
    parts = ("n", "mean", "low", "high")
    header = ["variant", *keys, "subset", "metric", *parts]
    header += [f"{prefix}{part}" for prefix in ("difference_", "win_rate_") for part in parts]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*header, "marked"], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def columns(prefix: str, estimate: Estimate) -> dict[str, Any]:
    values = {"mean": estimate.mean, "low": estimate.low, "high": estimate.high}
    known = {f"{prefix}{name}": value for name, value in values.items() if not math.isnan(value)}
    return {f"{prefix}n": estimate.n, **known} if estimate.n else {}
