"""A metric or score against a swept parameter, as an image for a page of results."""

from __future__ import annotations

import io
import math
from typing import Any

from eclipse_pl.data.subset_names import ALL
from eclipse_pl.dotted_keys import ending_in, shortest
from eclipse_pl.reports.comparison import Comparison
from eclipse_pl.reports.distribution_comparison import DistributionComparison
from eclipse_pl.reports.latent_comparison import COSTS, Cost, LatentComparison
from eclipse_pl.reports.metrics import BY_NAME
from eclipse_pl.reports.report import Report
from eclipse_pl.reports.variants import Variant, canonical, names_of, plain, rank

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#555555", "#882255")
MARKERS = "osD^vPX*"
KINDS = (".png", ".pdf", ".svg")
LOGARITHMIC = 30
"""Positive values that span more than this factor get a logarithmic axis."""
LINE_OF_TEXT = 0.04
"""Height of a level's name, as a share of the image's."""


def parameter_plot(report: Report, x: str, y: str, kind: str = ".png") -> bytes:
    """Means over seeds with 95 % intervals and single seeds, a line for each setting of the other parameters.

    Variants that do not have the parameter are levels across the image. So are baselines, ridge regression and the upper
    bound, where they lie inside.

    Args:
        report: What is drawn.
        x: A dotted key in which the configs differ, or its last words; or a cost.
        y: A metric, SUBSET/METRIC, or a score by the name it is logged under.
        kind: Suffix of the file.

    Raises:
        ValueError: There is no such parameter, metric, subset or kind of file.
    """
    from matplotlib.figure import Figure

    if kind not in KINDS:
        raise ValueError(f"--plot writes {', '.join(KINDS)} files, not {kind or 'one without a suffix'!r}.")
    comparison, column = quantity_of(report, y)
    key = key_of(comparison, x)
    values = {variant.name: value_at(variant, key) for variant in comparison.variants}
    figure = Figure(figsize=(5.6, 3.9), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    places = scale(axes, [value for value in values.values() if value is not None], each=key not in COSTS)
    for at, (name, line) in enumerate(lines_of(comparison, key, values).items()):
        draw_line(axes, comparison, column, [(places[values[v.name]], v) for v in line], name, at)
    without = [variant for variant in comparison.variants if values[variant.name] is None]
    draw_variants(axes, comparison, column, without)
    draw_levels(axes, levels_of(comparison, column))
    better = "" if column.better == "none" else f" ({column.better} is better)"
    axes.set_xlabel(key)
    axes.set_ylabel(f"{column.label}{better}")
    axes.set_title(intervals_of(comparison), fontsize=8, color="0.35", loc="right")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    labels = axes.get_legend_handles_labels()[1]
    if len(labels) > 4:  # inside the axes they would hide the lines
        legends = [figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)]
    else:
        legends = [axes.legend(frameon=False, fontsize=8)] if labels else []
    for text in (text for legend in legends for text in legend.get_texts()):
        text.set_parse_math(False)  # a name of a run, in which $ is no formula
    content = io.BytesIO()
    figure.savefig(content, format=kind[1:], dpi=150, metadata={"Date": None} if kind == ".svg" else None)
    return content.getvalue()


def scale(axes: Any, values: list[Any], each: bool) -> dict[Any, float]:
    """Set the x axis for numbers (logarithmic where they span much) or for words; the place of each value on it.

    ``each``: write every value below the axis, as is right for chosen ones. Costs come out as they do, and close together.
    """
    ordered = sorted(set(values), key=rank)
    if not all(isinstance(value, (int, float)) for value in ordered):
        axes.set_xticks(range(len(ordered)), [str(value) for value in ordered], parse_math=False)
        return {value: float(at) for at, value in enumerate(ordered)}
    if ordered and 0 < LOGARITHMIC * ordered[0] < ordered[-1]:
        axes.set_xscale("log")
    if not each:
        from matplotlib.ticker import EngFormatter

        axes.xaxis.set_major_formatter(EngFormatter())
    elif len(ordered) <= 8:
        axes.set_xticks(ordered, [f"{value:g}" for value in ordered])
        axes.minorticks_off()
    return {value: float(value) for value in ordered}


def draw_line(axes: Any, comparison: Comparison, column: Any, line: list[tuple[float, Variant]], name: str, at: int) -> None:
    estimates = [comparison.estimate(variant, column) for _, variant in line]
    colour = COLOURS[at % len(COLOURS)]
    axes.errorbar(
        [place for place, _ in line],
        [one.mean for one in estimates],
        [
            [one.mean - one.low if one.has_interval else 0.0 for one in estimates],
            [one.high - one.mean if one.has_interval else 0.0 for one in estimates],
        ],
        color=colour,
        marker=MARKERS[at % len(MARKERS)],
        markersize=5,
        capsize=3,
        label=name or None,
    )
    for place, variant in line:
        seeds = comparison.values(variant, column)
        axes.plot([place] * len(seeds), seeds, "o", color=colour, markerfacecolor="white", markersize=3.2, zorder=3)


def draw_variants(axes: Any, comparison: Comparison, column: Any, without: list[Variant]) -> None:
    """Horizontal lines: variants without the parameter."""
    for at, variant in enumerate(without):
        estimate = comparison.estimate(variant, column)
        colour = COLOURS[(at + 3) % len(COLOURS)]
        axes.axhline(estimate.mean, color=colour, linewidth=1.3, label=variant.name)
        if estimate.has_interval:
            axes.axhspan(estimate.low, estimate.high, color=colour, alpha=0.12, linewidth=0)


def draw_levels(axes: Any, levels: dict[str, float]) -> None:
    """Dashed lines with their names at the right, where they do not squeeze the plot."""
    low, high = axes.get_ylim()
    reach = (high - low) * 0.6
    inside = sorted((value, name) for name, value in levels.items() if low - reach < value < high + reach)
    for value, _ in inside:
        axes.axhline(value, color="0.45", linewidth=0.9, linestyle="--")
    low, high = axes.get_ylim()  # the lines may have stretched it
    place = -math.inf
    for value, name in inside:
        place = max(value, place + (high - low) * LINE_OF_TEXT)  # names of close levels are stacked
        axes.annotate(name, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=7, color="0.35")


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
    """The dotted key or cost that the words of ``--x`` name."""
    keys = comparison.keys
    fitting = [x] if x in keys else ending_in(x, keys)
    if len(fitting) == 1:
        return fitting[0]
    if x in COSTS:
        return x
    choices = [*(shortest(keys)[key] for key in keys), *COSTS]
    raise ValueError(
        f"--x {x} is {'several' if fitting else 'none'} of what differs between the variants: {', '.join(choices)}."
    )


def value_at(variant: Variant, key: str) -> Any:
    """None where the variant has no such parameter."""
    if key in COSTS:
        cost = Cost.of(variant).number(key)
        return None if math.isnan(cost) else cost
    if key == "data.init_args.pairs" and variant.settings.get(key, 0) is None:
        return Cost.of(variant).train_pairs  # null is all of them
    value = variant.settings.get(key)
    return value if isinstance(value, (int, float)) or value is None else plain(value)


def quantity_of(report: Report, y: str) -> tuple[Comparison, Any]:
    """A latent metric as METRIC or SUBSET/METRIC, a score or distance by the name it is logged under; and who has it.

    Raises:
        ValueError: There is none of that name.
    """
    scores = {column.name: column for column in report.scores.all_columns} if report.scores else {}
    if report.scores is not None and y in scores:
        return report.scores, scores[y]
    subset, _, metric = y.rpartition("/")
    choices = []
    if report.latent is not None:
        column = BY_NAME[metric].of(subset or ALL) if metric in BY_NAME else None
        parts = [part for part in (report.latent, report.distribution) if part is not None]
        if column is not None and (part := next((part for part in parts if column in part.columns), None)):
            return part, column
        known = dict.fromkeys(column.name for part in parts for column in part.columns)
        if column is not None and metric not in known:
            choices.append("no run was measured with latent.samples, which it needs")
        choices.append(
            f"the metrics are {', '.join(known)}, alone or as SUBSET/METRIC with one of {', '.join(report.latent.subsets)}"
        )
    if scores:
        choices.append(f"the scores are {', '.join(scores)}")
    raise ValueError(f"--y {y} is no metric and no score; {'; '.join(choices)}.")


def levels_of(comparison: Comparison, column: Any) -> dict[str, float]:
    """Values of baselines, ridge regression and upper bound, which latent metrics have."""
    context = comparison.context if isinstance(comparison, LatentComparison) else {}
    return {name: table.get(column.subset, {}).get(column.name, math.nan) for name, table in context.items()}


def intervals_of(comparison: Comparison) -> str:
    """How many seeds there are, and what intervals are over."""
    over = "images" if isinstance(comparison, DistributionComparison) else "prompts"
    without = isinstance(comparison, LatentComparison) and not isinstance(comparison, DistributionComparison)
    single = "no interval" if without else f"95 % intervals over {over}"
    counts = sorted(len(variant.runs) for variant in comparison.variants if variant.first.has_seeds)
    if not counts or counts[-1] == 1:
        return f"n = 1 seed: {single}"
    several = f"n = {' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} seeds, 95 % t-intervals"
    return several if counts[0] > 1 else f"{several}; of 1 seed {single}"
