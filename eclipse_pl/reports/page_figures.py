"""The figures of the page: final metrics by seed, and learning curves."""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape

from eclipse_pl.intervals import Estimate
from eclipse_pl.latent_metrics import ALL
from eclipse_pl.reports.charts import Line, Point, Whisker, interval_chart, line_chart, swatch
from eclipse_pl.reports.html_parts import figures, note, section, tabs
from eclipse_pl.reports.latent_comparison import CurvePoint, LatentComparison, value_of
from eclipse_pl.reports.metric import METRICS, Metric, decimals_of, number
from eclipse_pl.reports.report import Report
from eclipse_pl.reports.tables import name_of, plus_minus
from eclipse_pl.reports.variants import Variant

CURVES = tuple(metric for metric in METRICS if metric.name not in ("R@5", "R@10"))


def final_charts(report: Report) -> str:
    comparison = report.latent
    if comparison is None:
        return ""
    panels = {}
    for metric in report.metrics:
        estimates = [comparison.estimate(variant, metric) for variant in comparison.variants]
        seeds = [[value_of(run, metric, ALL) for run in variant.runs.values()] for variant in comparison.variants]
        whiskers = whiskers_of(comparison, comparison.variants, estimates, metric, seeds)
        for name, rows in comparison.beside.items():
            if name.startswith("ridge"):
                title = f"{name}: {metric.name} {number(rows[ALL][metric.name], decimals_of(estimates))}"
                whiskers.append(Whisker(name, None, Point(0.0, rows[ALL][metric.name], math.nan, math.nan, title)))
        label = f"difference in {metric.name} from {comparison.reference.name}"
        paired = [comparison.difference(variant, metric) for variant in comparison.others]
        right = interval_chart(whiskers_of(comparison, comparison.others, paired, metric, []), label, zero=True)
        panels[metric.name] = figures([interval_chart(whiskers, metric.name), right])
    caption = "Dots: mean over seeds; lines: 95 % t-interval; rings: single seeds. Second chart: by paired seeds."
    return section("Final metrics by seed", tabs("final", panels) + note(caption))


def whiskers_of(
    comparison: LatentComparison, variants: list[Variant], estimates: list[Estimate], metric: Metric, seeds: list[list[float]]
) -> list[Whisker]:
    decimals = decimals_of(estimates)
    return [
        Whisker(
            name_of(comparison, variant),
            comparison.variants.index(variant),
            point_of(0.0, one, f"{variant.name}: {metric.name} {told(one, decimals)}"),
            seeds[at] if seeds else [],
        )
        for at, (variant, one) in enumerate(zip(variants, estimates, strict=True))
    ]


def learning_curves(report: Report) -> str:
    comparison = report.latent
    if comparison is None:
        return ""
    panels = {}
    seconds = [run.total("train_seconds") for run in comparison.runs]
    unit, size = unit_of(max((one for one in seconds if not math.isnan(one)), default=0.0))
    for metric in CURVES:
        curves = [comparison.curve(variant, metric) for variant in comparison.variants]
        levels = {name: rows[ALL][metric.name] for name, rows in comparison.beside.items()}
        charts = [
            curve_chart(comparison, curves, metric, "samples seen", lambda point: point.samples, levels),
            curve_chart(comparison, curves, metric, f"training, {unit}", lambda point: point.seconds / size, levels),
        ]
        if any(charts):
            panels[metric.name] = figures(charts)
    if not panels:
        return ""
    caption = (
        "Validations that all seeds of a variant have: mean over seeds, band its 95 % t-interval (cut off at the axis). Time "
        "is without validation, the mean over seeds. Dashed grey: baselines, ridge or upper bound where they fall inside."
    )
    return section("Learning curves", tabs("curves", panels) + legend(comparison) + note(caption))


def curve_chart(
    comparison: LatentComparison,
    curves: list[list[CurvePoint]],
    metric: Metric,
    x_label: str,
    x_of: Callable[[CurvePoint], float],
    levels: dict[str, float],
) -> str:
    lines = []
    for at, (variant, curve) in enumerate(zip(comparison.variants, curves, strict=True)):
        decimals = decimals_of([point.value for point in curve])
        titles = [
            f"{variant.name}, step {point.step:,}: {metric.name} {told(point.value, decimals)}; {point.samples:,.0f} samples, "
            f"{number(point.seconds, 1)} s"
            for point in curve
        ]
        lines.append(Line(at, [point_of(x_of(p), p.value, title) for p, title in zip(curve, titles, strict=True)]))
    return line_chart(lines, x_label, metric.name, levels)


def point_of(x: float, estimate: Estimate, title: str) -> Point:
    return Point(x, estimate.mean, estimate.low, estimate.high, title)


def told(estimate: Estimate, decimals: int) -> str:
    return f"{plus_minus(estimate, decimals)}, n = {estimate.n}"


def unit_of(seconds: float) -> tuple[str, int]:
    """Seconds, minutes or hours, and how many seconds that is."""
    if seconds >= 18_000:
        return "h", 3600
    return ("min", 60) if seconds >= 300 else ("s", 1)


def legend(comparison: LatentComparison) -> str:
    items = [f"<li>{swatch(at)}{escape(name_of(comparison, one))}</li>" for at, one in enumerate(comparison.variants)]
    return f'<ul class="legend">{"".join(items)}</ul>'
