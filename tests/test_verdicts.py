"""Which side of a comparison is better: the signs in the tables, and the direction of each metric."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from eclipse_pl.intervals import Estimate
from eclipse_pl.reports.metrics import BY_NAME, LOWER_WINS, METRICS
from eclipse_pl.reports.score_comparison import DISTANCES
from eclipse_pl.reports.tables import heading, verdict

RESULTS = Path(__file__).parent.parent / "experiments/results"
TURNED = {"1_higher": " ▲", "1_lower": " ▼", "-1_higher": " ▼", "-1_lower": " ▲", "1_none": " ◆", "-1_none": " ◆"}


@pytest.mark.parametrize(("case", "sign"), TURNED.items())
def test_the_sign_of_a_difference(case: str, sign: str) -> None:
    mean, better = case.split("_")
    mean = float(mean)
    assert verdict(Estimate(mean, mean - 0.5, mean + 0.5, 3), better) == sign
    assert verdict(Estimate(mean, mean - 1.5, mean + 1.5, 3), better) == "", "its interval holds 0"
    assert verdict(Estimate.without(mean, 1), better) == "", "it has no interval"


def test_the_arrow_of_a_column() -> None:
    assert [heading("x", better)[-1] for better in ("higher", "lower", "none")] == ["↑", "↓", "x"]


def test_the_truth_is_better_than_a_constant_by_every_metric_with_a_direction() -> None:
    """By the numbers that are committed: the true embedding against the mean image."""
    lines = [line for line in (RESULTS / "detail_world.csv").read_text().splitlines() if not line.startswith("#")]
    row = next(row for row in csv.DictReader(lines) if row["val/upper_bound/frechet"])
    for name, metric in BY_NAME.items():
        truth, constant = (float(row[f"val/{kind}/{name}"]) for kind in ("upper_bound", "mean_image"))
        if metric.better != "none":
            assert (truth > constant) == (metric.better == "higher"), name
    lower = {metric.pair_value for metric in BY_NAME.values() if metric.better == "lower" and metric.pair_value}
    assert set(LOWER_WINS) == lower | {"rank"} and "rank" in {metric.pair_value for metric in METRICS}


def test_distances_are_better_low_and_shares_high() -> None:
    directions = {column.key: column.better for column in DISTANCES}
    assert directions == dict.fromkeys(["fid", "kid", "cmmd", "fd_dinov2"], "lower") | dict.fromkeys(
        ["precision", "recall", "density", "coverage"], "higher"
    )
