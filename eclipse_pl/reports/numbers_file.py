"""The numbers of a comparison as CSV: a row a variant, subset and metric."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

from eclipse_pl.intervals import Estimate
from eclipse_pl.reports.comparison import Comparison
from eclipse_pl.reports.costs import COSTS, Cost
from eclipse_pl.reports.latent_comparison import LatentComparison
from eclipse_pl.reports.metric import METRICS, NOTHING
from eclipse_pl.reports.report import Report
from eclipse_pl.reports.score_comparison import ScoreComparison
from eclipse_pl.reports.variants import Variant, plain

PARTS = ("n", "mean", "low", "high", "interval")
Rows = list[dict[str, Any]]


def numbers_csv(report: Report) -> str:
    """Means, differences by paired seeds and win rates with their intervals; baselines, ridge, upper bound and costs too.

    Scores have the name under which they are logged. ``n`` counts what the interval is ``over``: seeds of training or prompts;
    images or prompts in win rates. ``interval`` names its method, or says why there is none. Empty cells are numbers that
    there are not. Settings are those in which variants differ, by their dotted keys.
    """
    keys = list(dict.fromkeys(key for variant in report.comparison.variants for key in variant.settings))
    rows = [*(latent_rows(report.latent) if report.latent else []), *(score_rows(report.scores) if report.scores else [])]
    header = ["variant", *keys, "subset", "metric", "over", *PARTS]
    header += [f"{prefix}{part}" for prefix in ("difference_", "win_rate_") for part in PARTS]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*header, "marked"], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def latent_rows(latent: LatentComparison) -> Rows:
    rows: Rows = []
    for variant in latent.variants:
        named = name_and_settings(latent, variant)
        for subset in latent.subsets:
            for metric in METRICS:
                row = {**named, "subset": subset, "metric": metric.name, "over": "seeds"}
                row |= columns("", latent.estimate(variant, metric, subset))
                row |= columns("difference_", latent.difference(variant, metric, subset))
                if metric.column:
                    row |= columns("win_rate_", latent.win_rate(variant, metric.column, subset))
                rows.append(row)
        cost = Cost.of(variant)
        for name in COSTS:
            value = cost.number(name)
            rows.append({**named, "metric": name, "mean": "" if math.isnan(value) else value})
    for name, table in latent.beside.items():
        for subset, metrics in table.items():
            rows += [{"variant": name, "subset": subset, "metric": metric, "mean": value} for metric, value in metrics.items()]
    return rows


def score_rows(scores: ScoreComparison) -> Rows:
    rows: Rows = []
    for variant in scores.variants:
        named = name_and_settings(scores, variant)
        over = "prompts" if scores.over_prompts(variant) else "seeds"
        for column in scores.all_columns:
            row = {**named, "subset": column.subset, "metric": column.name, "over": over}
            row |= columns("", scores.estimate(variant, column)) | columns("difference_", scores.difference(variant, column))
            preference = scores.preference(variant, column)
            rows.append(row | columns("win_rate_", preference.win_rate if preference else NOTHING))
    return rows


def name_and_settings(comparison: Comparison, variant: Variant) -> dict[str, Any]:
    settings = {key: plain(value) for key, value in variant.settings.items()}
    return {"variant": variant.name, "marked": "yes" if comparison.is_marked(variant) else "", **settings}


def columns(prefix: str, estimate: Estimate) -> dict[str, Any]:
    values = {"mean": estimate.mean, "low": estimate.low, "high": estimate.high}
    known = {f"{prefix}{name}": value for name, value in values.items() if not math.isnan(value)}
    return {f"{prefix}n": estimate.n, **known, f"{prefix}interval": estimate.method} if estimate.n else {}
