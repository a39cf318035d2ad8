"""Runs of the sweeps, from the files in results/: a file NAME.csv has a line for each run of sweeps/NAME.yaml."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from eclipse_pl.intervals import NOTHING, Estimate, mean_interval

HERE = Path(__file__).parent.parent
DETAILS = {"world": 1.0, "world_detail_75": 0.75, "world_detail_50": 0.5, "world_detail_25": 0.25}
BUDGETS, BUDGET_DATA = (400, 2000, 8000), "world_detail_50"
ONE_PASS = {
    "projection_world": "projection",
    "eclipse_world": "ECLIPSE",
    "energy_world": "energy",
    "eclipse_energy_world": "ECLIPSE + energy",
    "mean_flow_world": "MeanFlow",
}
MANY_PASSES = {"diffusion_world": "diffusion", "flow_world": "flow, velocity", "flow_x0_world": "flow, x0"}
WHITENED = {"projection_whitened_world": "projection, whitened"}
FITTED = {"linear": "ridge regression", "nearest_neighbour": "nearest neighbour"}
BASELINES = {"text_as_image": "text as image (baseline)", "mean_image": "mean image (baseline)"}
LABELS = {**ONE_PASS, **MANY_PASSES, **WHITENED, **FITTED, **BASELINES}
REFERENCE = "projection_world"
ONLY = ""
"""The prior of a sweep that has one."""

Run = dict[str, str]
"""A line of a file: {column: text}."""


class Runs:
    """The runs of several sweeps, each with its detail and its prior: those whose columns have the values of ``where``.

    A measurement has the parameters in the name of the run that it measured, too.
    """

    def __init__(self, *names: str, where: Mapping[str, str] | None = None) -> None:
        self.lines: list[Run] = []
        for name in names:
            path = HERE / "results" / f"{name}.csv"
            if path.is_file():
                text = [line for line in path.read_text().splitlines() if not line.startswith("#")]
                self.lines += [run for run in csv.DictReader(text) if (where or {}).items() <= (run | measured(run)).items()]

    def of(self, prior: str, data: str) -> dict[str, Run]:
        """{seed: run}"""
        found = {identity(run): run for run in self.lines}
        return {seed: run for (of_prior, of_data, seed), run in found.items() if (of_prior, of_data) == (prior, data)}

    def estimate(self, prior: str, data: str, metric: str) -> Estimate:
        """Mean over seeds."""
        values = [float(run[metric]) for run in self.of(prior, data).values() if run.get(metric)]
        return mean_interval(values, 1e-6 * max(map(abs, values))) if values else NOTHING

    def difference(self, prior: str, data: str, metric: str, reference: str = REFERENCE) -> Estimate:
        """From another prior, by paired seeds."""
        ours, theirs = self.of(prior, data), self.of(reference, data)
        pairs = [(float(ours[seed][metric]), float(theirs[seed][metric])) for seed in ours if seed in theirs]
        resolution = 1e-6 * max((abs(value) for pair in pairs for value in pair), default=0.0)
        return mean_interval([one - other for one, other in pairs], resolution) if pairs else NOTHING


def identity(run: Run) -> tuple[str, str, str]:
    """Prior, data and seed: of a training from its parameters, of a measurement from the name of the run that it measured."""
    if named := measured(run):
        return named["prior"], named.get("data", BUDGET_DATA), named.get("seed_everything", "0")
    data = Path(run["data"]).stem if "data" in run else BUDGET_DATA
    return Path(run.get("model.prior", ONLY)).stem, data, run.get("seed_everything") or "0"


def measured(run: Run) -> dict[str, str]:
    """Parameters in the name of the run that a measurement measured; none of a training."""
    path = run.get("prior") or run.get("ckpt_path")
    return dict(part.split("=") for part in Path(path).name.split(",")) if path else {}


def budget_runs(steps: int) -> Runs:
    if steps == 2000:
        return Runs("detail_world", "detail_sampled_world")
    return Runs("budget_world", "budget_sampled_world", where={"trainer.max_steps": str(steps)})
