"""The numbers of a comparison as CSV: a line for each variant, subset and metric."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

from eclipse_pl.intervals import NOTHING, Estimate
from eclipse_pl.reports.comparison import Comparison
from eclipse_pl.reports.latent_comparison import COSTS, Cost, LatentComparison
from eclipse_pl.reports.metrics import METRICS
from eclipse_pl.reports.report import Report
from eclipse_pl.reports.score_comparison import ScoreComparison
from eclipse_pl.reports.variants import Variant, plain

PARTS = ("n", "mean", "low", "high", "interval")
Line = dict[str, Any]


def numbers_csv(report: Report) -> str:
    """Means, differences by paired seeds and win rates with their intervals; baselines, bounds and costs too.

    Scores have the name under which they are logged. ``n`` counts what the interval is ``over``: seeds of training or prompts;
    images or prompts in win rates. ``interval`` names its method, or the reason why there is none. Numbers that do not exist
    are empty. Settings are those in which variants differ, by their dotted keys.
    """
    lines = [*(latent_lines(report.latent) if report.latent else []), *(score_lines(report.scores) if report.scores else [])]
    header = ["variant", *report.comparison.keys, "subset", "metric", "over", *PARTS]
    header += [f"{prefix}{part}" for prefix in ("difference_", "win_rate_") for part in PARTS]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*header, "marked"], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def latent_lines(latent: LatentComparison) -> list[Line]:
    lines: list[Line] = []
    for variant in latent.variants:
        named = name_and_settings(latent, variant)
        for subset in latent.subsets:
            for metric in METRICS:
                line = {**named, "subset": subset, "metric": metric.name, "over": "seeds"}
                line |= columns("", latent.estimate(variant, metric, subset))
                line |= columns("difference_", latent.difference(variant, metric, subset))
                if metric.pair_value:
                    line |= columns("win_rate_", latent.win_rate(variant, metric.pair_value, subset))
                lines.append(line)
        cost = Cost.of(variant)
        for name in COSTS:
            value = cost.number(name)
            lines.append({**named, "metric": name, "mean": "" if math.isnan(value) else value})
    for name, table in latent.context.items():
        for subset, metrics in table.items():
            lines += [{"variant": name, "subset": subset, "metric": metric, "mean": mean} for metric, mean in metrics.items()]
    return lines


def score_lines(scores: ScoreComparison) -> list[Line]:
    lines: list[Line] = []
    for variant in scores.variants:
        named = name_and_settings(scores, variant)
        over = "prompts" if scores.over_prompts(variant) else "seeds"
        for column in scores.all_columns:
            line = {**named, "subset": column.subset, "metric": column.name, "over": over}
            line |= columns("", scores.estimate(variant, column)) | columns("difference_", scores.difference(variant, column))
            preference = scores.preference(variant, column)
            lines.append(line | columns("win_rate_", preference.win_rate if preference else NOTHING))
    return lines


def name_and_settings(comparison: Comparison, variant: Variant) -> dict[str, Any]:
    settings = {key: plain(value) for key, value in variant.settings.items()}
    return {"variant": variant.name, "marked": "yes" if comparison.is_marked(variant) else "", **settings}


def columns(prefix: str, estimate: Estimate) -> dict[str, Any]:
    values = {"mean": estimate.mean, "low": estimate.low, "high": estimate.high}
    known = {f"{prefix}{name}": value for name, value in values.items() if not math.isnan(value)}
    return {f"{prefix}n": estimate.n, **known, f"{prefix}interval": estimate.method} if estimate.n else {}
