"""Plots of what was measured: quality against the detail of captions, and against the training budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from eclipse_pl.intervals import Estimate
from eclipse_pl.reports.parameter_plot import COLOURS, MARKERS
from experiments.measured.runs import BUDGET_DATA, BUDGETS, DETAILS, LABELS, MANY_PASSES, ONE_PASS, Runs, budget_runs

PANELS = {
    "val/energy_score": "energy score (lower is better)",
    "val/mean_cosine": "cosine of a sample (higher is better)",
    "val/frechet": "Fréchet distance (lower is better)",
}
"""{metric: title of its panel}"""


def detail_plot(path: Path) -> None:
    """Quality against detail: each prior's difference from `REFERENCE`, by paired seeds."""
    runs = Runs("detail_world", "detail_sampled_world")
    figure, panels = three_panels("detail of the captions")
    for axes, metric in zip(panels, PANELS, strict=True):
        for prior in ONE_PASS | MANY_PASSES:
            line(axes, prior, {detail: runs.difference(prior, data, metric) for data, detail in DETAILS.items()})
        axes.set_xticks(list(DETAILS.values()), [f"{detail:g}" for detail in DETAILS.values()])
        axes.invert_xaxis()
        axes.set_title(f"{PANELS[metric]}\nminus projection", fontsize=9)
    save(figure, path)


def budget_plot(path: Path) -> None:
    """Quality against the steps of training, at one detail."""
    figure, panels = three_panels("steps of training")
    for axes, metric in zip(panels, PANELS, strict=True):
        for prior in ONE_PASS | MANY_PASSES:
            if budget_runs(BUDGETS[0]).of(prior, BUDGET_DATA):
                line(axes, prior, {steps: budget_runs(steps).estimate(prior, BUDGET_DATA, metric) for steps in BUDGETS})
        axes.set_xscale("log")
        axes.set_xticks(BUDGETS, [f"{steps:,}" for steps in BUDGETS], minor=False)
        axes.set_xticks([], minor=True)
        axes.set_title(PANELS[metric], fontsize=9)
    save(figure, path)


def three_panels(label: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.9), layout="constrained", facecolor="white")
    panels = figure.subplots(1, len(PANELS))
    for axes in panels:
        axes.set_xlabel(label)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def line(axes: Any, prior: str, found: Mapping[float, Estimate]) -> None:
    """A prior's means with their intervals: solid for one pass, dashed for many."""
    known = {at: one for at, one in found.items() if one.n}
    half = [one.high - one.mean if one.has_interval else 0.0 for one in known.values()]
    number = list(ONE_PASS | MANY_PASSES).index(prior)
    axes.errorbar(
        list(known),
        [one.mean for one in known.values()],
        half,
        color=COLOURS[number % len(COLOURS)],
        marker=MARKERS[number % len(MARKERS)],
        linestyle="-" if prior in ONE_PASS else "--",
        markersize=5,
        capsize=3,
        label=LABELS[prior],
    )


def show_means(axes: Any) -> None:
    """Cut the axis where only intervals reach: that of two seeds may be many times as long as all differences."""
    means = [float(mean) for one in axes.containers for mean in one[0].get_ydata()]
    low, high = axes.get_ylim()
    beyond = 0.3 * (max(means) - min(means))
    axes.set_ylim(max(low, min(means) - beyond), min(high, max(means) + beyond))


def save(figure: Any, path: Path) -> None:
    for axes in figure.axes:
        show_means(axes)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


PLOTS: dict[str, Callable[[Path], Any]] = {"detail.png": detail_plot, "budget.png": budget_plot}
