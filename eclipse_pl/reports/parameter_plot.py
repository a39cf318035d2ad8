"""A metric against a swept parameter, as a picture for a page of results."""

from __future__ import annotations

import io
import math
from typing import Any

from eclipse_pl.latent_metrics import ALL
from eclipse_pl.reports.comparison import COSTS, Comparison, value_of
from eclipse_pl.reports.metric import BY_NAME, Metric
from eclipse_pl.reports.variants import Variant, canonical, names_of, plain, rank, shortest

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#555555")
MARKERS = "osD^vPX"
KINDS = (".png", ".pdf", ".svg")
LOGARITHMIC = 30
"""Positive values that span more than this factor stand on a logarithmic axis."""


def parameter_plot(comparison: Comparison, x: str, y: str, kind: str = ".png") -> bytes:
    """Means over seeds with 95 % t-intervals and single seeds, a line for each setting of the other parameters.

    Variants that do not have the parameter are levels across the picture, as are floors, ridge regression and ceiling where
    they fall inside.

    Args:
        comparison: What is drawn.
        x: A dotted key in which the configs differ, or its last words; or a cost.
        y: A metric, or SUBSET/METRIC.
        kind: Suffix of the file.

    Raises:
        ValueError: no such parameter, metric, subset or kind, with the choices.
    """
    from matplotlib.figure import Figure

    if kind not in KINDS:
        raise ValueError(f"--plot writes {', '.join(KINDS)} files, not {kind or 'one without a suffix'!r}.")
    subset, metric = subset_and_metric(comparison, y)
    key = key_of(comparison, x)
    values = {variant.name: value_at(comparison, variant, key) for variant in comparison.variants}
    figure = Figure(figsize=(5.6, 3.9), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    places = scale(axes, [value for value in values.values() if value is not None])
    for at, (name, line) in enumerate(lines_of(comparison, key, values).items()):
        draw_line(axes, comparison, [(places[values[v.name]], v) for v in line], name, at, subset, metric)
    without = [variant for variant in comparison.variants if values[variant.name] is None]
    draw_levels(axes, comparison, without, subset, metric)
    better = "" if metric.better == "none" else f" ({metric.better} is better)"
    axes.set_xlabel(key)
    axes.set_ylabel(f"{metric.name}{f', {subset} pairs' if subset != ALL else ''}{better}")
    axes.set_title(seeds_told(comparison), fontsize=8, color="0.35", loc="right")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=8)
    content = io.BytesIO()
    figure.savefig(content, format=kind[1:], dpi=150, metadata={"Date": None} if kind == ".svg" else None)
    return content.getvalue()


def scale(axes: Any, values: list[Any]) -> dict[Any, float]:
    """Set the x axis for numbers (logarithmic where they span much) or for words; the place of each value on it."""
    ordered = sorted(set(values), key=rank)
    if not all(isinstance(value, (int, float)) for value in ordered):
        axes.set_xticks(range(len(ordered)), [str(value) for value in ordered])
        return {value: float(at) for at, value in enumerate(ordered)}
    if ordered and 0 < LOGARITHMIC * ordered[0] < ordered[-1]:
        axes.set_xscale("log")
    if len(ordered) <= 8:
        axes.set_xticks(ordered, [f"{value:g}" for value in ordered])
        axes.minorticks_off()
    return {value: float(value) for value in ordered}


def draw_line(
    axes: Any, comparison: Comparison, line: list[tuple[float, Variant]], name: str, at: int, subset: str, metric: Metric
) -> None:
    estimates = [comparison.estimate(variant, metric, subset) for _, variant in line]
    colour = COLOURS[at % len(COLOURS)]
    axes.errorbar(
        [place for place, _ in line],
        [one.mean for one in estimates],
        [one.high - one.mean if one.has_interval else 0.0 for one in estimates],
        color=colour,
        marker=MARKERS[at % len(MARKERS)],
        markersize=5,
        capsize=3,
        label=name or None,
    )
    for place, variant in line:
        seeds = [value_of(run, metric, subset) for run in variant.runs.values()]
        axes.plot([place] * len(seeds), seeds, "o", color=colour, markerfacecolor="white", markersize=3.2, zorder=3)


def draw_levels(axes: Any, comparison: Comparison, without: list[Variant], subset: str, metric: Metric) -> None:
    """Horizontal lines: variants without the parameter, and what stands beside where it does not squeeze the picture."""
    low, high = axes.get_ylim()
    reach = (high - low) * 0.6
    for at, variant in enumerate(without):
        estimate = comparison.estimate(variant, metric, subset)
        colour = COLOURS[(at + 3) % len(COLOURS)]
        axes.axhline(estimate.mean, color=colour, linewidth=1.3, label=variant.name)
        if estimate.has_interval:
            axes.axhspan(estimate.low, estimate.high, color=colour, alpha=0.12, linewidth=0)
    for name, rows in comparison.beside.items():
        value = rows.get(subset, {}).get(metric.name, math.nan)
        if low - reach < value < high + reach:
            axes.axhline(value, color="0.45", linewidth=0.9, linestyle="--")
            place = {"xy": (1, value), "xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom"}
            axes.annotate(name, **place, fontsize=7, color="0.35")


def seeds_told(comparison: Comparison) -> str:
    counts = sorted(len(variant.runs) for variant in comparison.variants)
    if counts[-1] == 1:
        return "n = 1 seed: no interval"
    return f"n = {' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} seeds, 95 % t-intervals"


def lines_of(comparison: Comparison, key: str, values: dict[str, Any]) -> dict[str, list[Variant]]:
    """Variants that have the parameter, by the settings that it does not decide; each line in the order of the parameter."""
    variants = sorted((v for v in comparison.variants if values[v.name] is not None), key=lambda one: rank(values[one.name]))
    free = []
    for other in dict.fromkeys(name for variant in variants for name in variant.settings if name != key):
        pairs = {(values[variant.name], canonical(variant.settings.get(other))) for variant in variants}
        # a line from one method to another would show what is between them, which is nothing
        if other.endswith("class_path") or len(pairs) > len({value for value, _ in pairs}):
            free.append(other)
    lines: dict[str, tuple[dict[str, Any], list[Variant]]] = {}
    for variant in variants:
        settings = {name: variant.settings[name] for name in free if name in variant.settings}
        lines.setdefault(canonical(list(settings.items())), (settings, []))[1].append(variant)
    names = names_of([settings for settings, _ in lines.values()]) if free else [""]
    return dict(zip(names, (line for _, line in lines.values()), strict=bool(lines)))


def key_of(comparison: Comparison, x: str) -> str:
    """The dotted key or cost that is meant by the words of ``--x``."""
    keys = list(dict.fromkeys(key for variant in comparison.variants for key in variant.settings))
    if x in keys:
        return x
    fitting = [key for key in keys if f".{'.'.join(word for word in key.split('.') if word != 'init_args')}".endswith(f".{x}")]
    if len(fitting) == 1:
        return fitting[0]
    if x in COSTS:
        return x
    choices = [*(shortest(keys)[key] for key in keys), *COSTS]
    raise ValueError(
        f"--x {x} is {'several' if fitting else 'none'} of what differs between the variants: {', '.join(choices)}."
    )


def value_at(comparison: Comparison, variant: Variant, key: str) -> Any:
    """None where the variant has no such parameter."""
    if key in COSTS:
        cost = comparison.cost_number(variant, key)
        return None if math.isnan(cost) else cost
    if key == "data.init_args.pairs" and variant.settings.get(key, 0) is None:
        return comparison.cost(variant).train_pairs  # null is all of them
    value = variant.settings.get(key)
    return value if isinstance(value, (int, float)) or value is None else plain(value)


def subset_and_metric(comparison: Comparison, y: str) -> tuple[str, Metric]:
    subset, _, metric = y.rpartition("/")
    subset = subset or ALL
    if metric not in BY_NAME or subset not in comparison.subsets:
        raise ValueError(
            f"--y {y} is no metric; the metrics are {', '.join(BY_NAME)}, alone or as SUBSET/METRIC with one of "
            f"{', '.join(comparison.subsets)}."
        )
    return subset, BY_NAME[metric]
