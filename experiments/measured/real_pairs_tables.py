"""Tables of the 500 real pairs: a row for each objective and training budget."""

from __future__ import annotations

from collections.abc import Callable

from eclipse_pl.intervals import NOTHING, Estimate, mean_interval
from eclipse_pl.reports.tables import decimals_of, estimate_text
from experiments.measured.markdown import markdown
from experiments.measured.runs import LABELS, REFERENCE, Runs

SWEEP, STEPS = "coco500_objectives", (300, 1200)
OVERLAP = 100 / 400
"""Measured pairs over training pairs of a split."""
METRICS = {
    "val/energy_score": "energy score",
    "val/mean_cosine": "cosine of a sample",
    "val/best_cosine": "best cosine of 8",
    "val/cosine": "cosine",
    "val/R@1": "R@1",
    "val/spread": "spread",
    "val/variance_ratio": "variance ratio",
}


def by_split() -> str:
    """Means over n splits."""
    return table(lambda prior, steps, metric: list(values(prior, steps, metric).values()))


def differences_by_split() -> str:
    """Mean differences from `REFERENCE` after as many steps, split by split, in which the difficulty of a split cancels."""

    def differences(prior: str, steps: int, metric: str) -> list[float]:
        ours, theirs = values(prior, steps, metric), values(REFERENCE, steps, metric)
        return [ours[split] - theirs[split] for split in ours if split in theirs and prior != REFERENCE]

    return table(differences, sign=True)


def values(prior: str, steps: int, metric: str) -> dict[str, float]:
    """{split: value}"""
    part = prior.replace("_world", "_pooled")
    where = {"trainer.max_steps": str(steps), "model.prior": f"experiments/parts/prior/{part}.yaml"}
    return {run["data.init_args.folder"]: float(run[metric]) for run in Runs(SWEEP, where=where).lines if run.get(metric)}


def table(numbers_of: Callable[[str, int, str], list[float]], sign: bool = False) -> str:
    found = {
        (prior, steps): [estimate(numbers_of(prior, steps, metric)) for metric in METRICS]
        for steps in STEPS
        for prior in LABELS
    }
    known = {row: estimates for row, estimates in found.items() if any(one.n for one in estimates)}
    decimals = [decimals_of(column) for column in zip(*known.values(), strict=True)]
    rows = []
    for (prior, steps), estimates in known.items():
        cells = [estimate_text(*cell, sign=sign) for cell in zip(estimates, decimals, strict=True)]
        rows.append([f"{LABELS[prior]}, {steps:,} steps", str(max(one.n for one in estimates)), *cells])
    return markdown(["", "n", *METRICS.values()], rows)


def estimate(numbers: list[float]) -> Estimate:
    return mean_interval(numbers, 1e-6 * max(map(abs, numbers)), OVERLAP) if numbers else NOTHING
