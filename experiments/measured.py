"""Tables and plots of what was measured on the world, from the files in results/; the tables stand in README.md.

    python experiments/measured.py
    python experiments/measured.py --check

A file `results/NAME.csv` has a line for each run of `sweeps/NAME.yaml`, and was written by `sweep --csv`. The first form draws
the plots and puts the tables into README.md; the second writes nothing, and fails where README.md has another table.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eclipse_pl.files import write_atomically
from eclipse_pl.intervals import NOTHING, Estimate, mean_interval
from eclipse_pl.reports.parameter_plot import COLOURS, MARKERS
from eclipse_pl.reports.tables import decimals_of, estimate_text

HERE = Path(__file__).parent
DETAILS = {"world": 1.0, "world_detail_75": 0.75, "world_detail_50": 0.5, "world_detail_25": 0.25}
BUDGETS, BUDGET_DATA = (400, 2000, 8000), "world_detail_50"
GUIDANCE = (1.0, 1.5, 2.0, 4.0)
ONE_PASS = {
    "projection_world": "projection",
    "eclipse_world": "ECLIPSE",
    "energy_world": "energy",
    "eclipse_energy_world": "ECLIPSE + energy",
    "mean_flow_world": "MeanFlow",
}
MANY_PASSES = {"diffusion_world": "diffusion", "flow_world": "flow, velocity", "flow_x0_world": "flow, x0"}
FITTED = {"linear": "ridge regression", "nearest_neighbour": "nearest neighbour"}
BASELINES = {"text_as_image": "text as image (baseline)", "mean_image": "mean image (baseline)"}
LABELS = {**ONE_PASS, **MANY_PASSES, **FITTED, **BASELINES}
TRUTH = "true distribution (upper bound)"
REFERENCE = "projection_world"
ONLY = ""
"""The prior of a sweep that has one."""
WEIGHTS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
HARD, HARD_WEIGHTS = "model.prior.init_args.hard_negatives", (0.0, 0.03, 0.3, 3.0)
WEIGHED = {
    "val/cosine": "cosine",
    "val/centred_cosine": "centred cosine",
    "val/R@1": "R@1",
    "val/hard_negative": "binding",
}
"""Metrics that a contrastive term may change."""

Run = dict[str, str]
"""A line of a file: {column: text}."""


class Runs:
    """The runs of several sweeps, each with its detail and its prior: those whose columns have the values of ``where``."""

    def __init__(self, *names: str, where: Mapping[str, str] | None = None) -> None:
        self.lines: list[Run] = []
        for name in names:
            path = HERE / "results" / f"{name}.csv"
            if path.is_file():
                text = [line for line in path.read_text().splitlines() if not line.startswith("#")]
                self.lines += [run for run in csv.DictReader(text) if (where or {}).items() <= run.items()]

    def of(self, prior: str, data: str) -> dict[str, Run]:
        """{seed: run}"""
        found = {identity(run): run for run in self.lines}
        return {seed: run for (of_prior, of_data, seed), run in found.items() if (of_prior, of_data) == (prior, data)}

    def estimate(self, prior: str, data: str, metric: str) -> Estimate:
        """Mean over seeds."""
        values = [float(run[metric]) for run in self.of(prior, data).values() if run.get(metric)]
        return mean_interval(values, 1e-6 * max(map(abs, values))) if values else NOTHING

    def difference(self, prior: str, data: str, metric: str) -> Estimate:
        """From `REFERENCE`, by paired seeds."""
        ours, theirs = self.of(prior, data), self.of(REFERENCE, data)
        pairs = [(float(ours[seed][metric]), float(theirs[seed][metric])) for seed in ours if seed in theirs]
        resolution = 1e-6 * max((abs(value) for pair in pairs for value in pair), default=0.0)
        return mean_interval([one - other for one, other in pairs], resolution) if pairs else NOTHING


def identity(run: Run) -> tuple[str, str, str]:
    """Prior, data and seed: of a training from its parameters, of a measurement from the name of the run that it measured."""
    if "prior" not in run and "ckpt_path" not in run:
        data = Path(run["data"]).stem if "data" in run else BUDGET_DATA
        return Path(run.get("model.prior", ONLY)).stem, data, run.get("seed_everything") or "0"
    named = dict(part.split("=") for part in Path(run.get("prior") or run["ckpt_path"]).name.split(","))
    return named["prior"], named.get("data", BUDGET_DATA), named.get("seed_everything", "0")


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


def count(runs: Runs, prior: str) -> str:
    """The number of seeds, at each detail if it differs."""
    numbers = [str(len(runs.of(prior, data))) for data in DETAILS]
    return numbers[0] if len(set(numbers)) == 1 else ", ".join(numbers)


def by_detail(metric: str) -> str:
    """A row for each prior, a column for each detail. The last row has samples of the true distribution for each caption."""
    runs = Runs("detail_world", "detail_sampled_world", "detail_baselines_world")
    table = {prior: [runs.estimate(prior, data, metric) for data in DETAILS] for prior in LABELS}
    numbers = {prior: count(runs, prior) for prior in LABELS}
    truth = Runs("detail_truth_world")
    table[TRUTH] = [truth.estimate(ONLY, data, metric.replace("val/", "val/upper_bound/")) for data in DETAILS]
    numbers[TRUTH] = count(truth, ONLY)
    decimals = [min(4, decimals_of([row[column] for row in table.values()])) for column in range(len(DETAILS))]
    rows = [
        [LABELS.get(prior, prior), numbers[prior], *(estimate_text(*one) for one in zip(row, decimals, strict=True))]
        for prior, row in table.items()
        if any(one.n for one in row)
    ]
    return markdown(["", "n", *(f"detail {detail:g}" for detail in DETAILS.values())], rows)


def by_budget(metric: str) -> str:
    """A row for each prior that was trained for several numbers of steps, a column for each number."""
    table = {
        prior: [budget_runs(steps).estimate(prior, BUDGET_DATA, metric) for steps in BUDGETS]
        for prior in LABELS
        if budget_runs(BUDGETS[0]).of(prior, BUDGET_DATA)
    }
    decimals = decimals_of([one for row in table.values() for one in row])
    rows = [
        [LABELS[prior], ", ".join(str(one.n) for one in row), *(estimate_text(one, decimals) for one in row)]
        for prior, row in table.items()
    ]
    return markdown(["", "n", *(f"{steps:,} steps" for steps in BUDGETS)], rows)


def budget_runs(steps: int) -> Runs:
    if steps == 2000:
        return Runs("detail_world", "detail_sampled_world")
    return Runs("budget_world", "budget_sampled_world", where={"trainer.max_steps": str(steps)})


def by_guidance(metric: str) -> str:
    """A row for each sampled prior and detail, a column for each guidance."""
    runs = [Runs("detail_guidance_world", where={"model.prior.init_args.guidance_scale": str(one)}) for one in GUIDANCE]
    rows = [
        [f"{label}, detail {detail:g}", *(estimate_text(one.estimate(prior, data, metric), 1) for one in runs)]
        for data, detail in DETAILS.items()
        for prior, label in MANY_PASSES.items()
    ]
    return markdown(["", *(f"guidance {one:g}" for one in GUIDANCE)], rows)


def by_relative_weight() -> str:
    """A row for each detail and metric, a column for each relative weight of the contrastive term."""
    rows = [
        (f"{label}, detail {detail:g}", weighed("relative_weight_world", data, metric, WEIGHTS))
        for data, detail in DETAILS.items()
        for metric, label in WEIGHED.items()
    ]
    return weight_table(rows, WEIGHTS)


def by_hard_negatives() -> str:
    """A row for each metric without and with hard negatives, a column for each relative weight."""
    rows = [
        (
            f"{label}, {how} hard negatives",
            weighed("contrastive_hard_world", BUDGET_DATA, metric, HARD_WEIGHTS, **{HARD: value}),
        )
        for metric, label in (WEIGHED | {"val/energy_score": "energy score"}).items()
        for how, value in {"without": "False", "with": "True"}.items()
    ]
    return weight_table(rows, HARD_WEIGHTS)


def weighed(sweep: str, data: str, metric: str, weights: Sequence[float], **where: str) -> list[Estimate]:
    """Mean over seeds for each relative weight."""
    runs = [Runs(sweep, where={"model.prior.init_args.relative_weight": str(weight)} | where) for weight in weights]
    return [one.estimate(ONLY, data, metric) for one in runs]


def weight_table(rows: Sequence[tuple[str, Sequence[Estimate]]], weights: Sequence[float]) -> str:
    written = [
        [label, str(max(one.n for one in found)), *(estimate_text(one, decimals_of(found)) for one in found)]
        for label, found in rows
        if any(one.n for one in found)
    ]
    return markdown(["relative weight", "n", *(f"{weight:g}" for weight in weights)], written)


READERS = {"world": "learned decoder", "world_nearest": "nearest scene", "world_nearest_5": "five nearest scenes"}


def of_images(data: str, sweep: str = "detail_images_world", readers: Sequence[str] = tuple(READERS)) -> str:
    """A row for each prior, a column for each decoder: the oracle's score, mean over categories."""
    read = [Runs(sweep, where={"decoder": f"experiments/parts/decoder/{reader}.yaml"}) for reader in readers]
    table = {prior: [runs.estimate(prior, data, "benchmark/oracle") for runs in read] for prior in LABELS}
    rows = [
        [LABELS[prior], str(max(one.n for one in found)), *(estimate_text(one, 3) for one in found)]
        for prior, found in table.items()
        if any(one.n for one in found)
    ]
    return markdown(["", "n", *(READERS[reader] for reader in readers)], rows)


TABLES: dict[str, Callable[[], str]] = {
    "detail, energy score": lambda: by_detail("val/energy_score"),
    "detail, cosine": lambda: by_detail("val/mean_cosine"),
    "detail, spread": lambda: by_detail("val/spread"),
    "detail, variance ratio": lambda: by_detail("val/variance_ratio"),
    "detail, Fréchet distance": lambda: by_detail("val/frechet"),
    "guidance, energy score": lambda: by_guidance("val/energy_score"),
    "budget, energy score": lambda: by_budget("val/energy_score"),
    "budget, cosine": lambda: by_budget("val/mean_cosine"),
    "budget, Fréchet distance": lambda: by_budget("val/frechet"),
    "relative weight": by_relative_weight,
    "hard negatives": by_hard_negatives,
    "images, detail 1": lambda: of_images("world"),
    "images, detail 0.5": lambda: of_images("world_detail_50"),
    "images, vague prompts": lambda: of_images("world_detail_50", "detail_vague_world", ("world", "world_nearest")),
    "images, 8,000 steps": lambda: of_images("world_detail_50", "budget_images_world", ("world", "world_nearest")),
}
"""{name in README.md: its table}"""

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


def with_tables(text: str) -> str:
    """The text of README.md with every table between its two marks.

    Raises:
        ValueError: A table has no place in the text, or the text has a place for a table that is none.
    """
    found = re.findall(r"<!-- table: (.+?) -->", text)
    if sorted(found) != sorted(TABLES):
        raise ValueError(f"README.md has places for the tables {', '.join(found) or 'none'}; there are {', '.join(TABLES)}.")
    for name, table in TABLES.items():
        pattern = rf"<!-- table: {re.escape(name)} -->\n.*?\n<!-- end -->"
        before, after = re.split(pattern, text, maxsplit=1, flags=re.DOTALL)
        text = f"{before}<!-- table: {name} -->\n{table()}\n<!-- end -->{after}"
    return text


def main(args: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python experiments/measured.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where README.md has another table")
    options = parser.parse_args(args)
    readme = HERE / "README.md"
    text = readme.read_text()
    tables = with_tables(text)
    if options.check:
        if tables != text:
            raise ValueError("README.md has other tables than results/. Run python experiments/measured.py.")
        return
    write_atomically(readme, tables.encode())
    for name, plot in PLOTS.items():
        plot(HERE / "results" / name)
        print(HERE / "results" / name, file=sys.stderr)


if __name__ == "__main__":
    main()
