"""The metrics of samples in a comparison, through its front door, on real small runs."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eclipse_pl.intervals import t_quantile
from eclipse_pl.latent.distribution import OF_CAPTIONS, OF_SETS
from eclipse_pl.reports.metrics import DISTRIBUTION
from tests.helpers.compared_runs import compare, copy, edit_report, flowing, make_runs, numbers, refused

FIRST, SECOND = "contrastive_weight=0.0", "contrastive_weight=1.0"
LAST = "weight_1.0_seed_1"
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def sampled_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two variants of two seeds with three samples a caption."""
    return make_runs(tmp_path_factory.mktemp("sampled"), "--latent.samples=3", seeds=(0, 1))


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def values(runs: Path, weight: float, metric: str, subset: str = "all") -> list[float]:
    reports = [json.loads((runs / f"weight_{weight}_seed_{seed}" / "latent.json").read_text()) for seed in (0, 1)]
    return [report["distribution"]["rows"]["this prior"][subset][metric][0] for report in reports]


def tables_of(printed: str) -> list[str]:
    """Those of --markdown."""
    return [part for part in printed.replace("\xa0", " ").split("\n\n") if part.startswith("|")]


def test_every_metric_of_samples_has_its_column(sampled_runs):
    assert tuple(metric.name for metric in DISTRIBUTION) == (*OF_CAPTIONS, *OF_SETS)
    compare(sampled_runs, "--csv", "numbers.csv")
    table = numbers()
    for metric in DISTRIBUTION:
        for subset in ("all", "unseen") if metric.name in OF_CAPTIONS else ("all",):
            first, second = values(sampled_runs, 0.0, metric.name, subset), values(sampled_runs, 1.0, metric.name, subset)
            row = table[SECOND, subset, metric.name]
            assert float(row["mean"]) == pytest.approx(statistics.mean(second)), metric.name
            apart = [b - a for a, b in zip(first, second, strict=True)]
            assert float(row["difference_mean"]) == pytest.approx(statistics.mean(apart), abs=1e-9)
            if max(apart) - min(apart) > 1e-3:
                half = t_quantile(1) * statistics.stdev(apart) / math.sqrt(2)
                assert float(row["difference_high"]) == pytest.approx(statistics.mean(apart) + half)
    assert (SECOND, "unseen", "frechet") not in table
    assert float(table["upper bound", "all", "energy_score"]["mean"]) == pytest.approx(0, abs=1e-3)
    assert float(table["mean image (baseline)", "all", "spread"]["mean"]) == pytest.approx(0, abs=1e-6)
    assert float(table["upper bound", "all", "cosine"]["mean"]) == pytest.approx(1)


def test_a_pair_is_won_by_the_lower_energy_score(sampled_runs):
    compare(sampled_runs, "--csv", "numbers.csv")
    pairs = [[np.load(sampled_runs / f"weight_{w}_seed_{s}" / "latent_pairs.npz") for w in (0.0, 1.0)] for s in (0, 1)]
    won = [(second["energy_score"] < first["energy_score"]).mean() for first, second in pairs]
    assert float(numbers()[SECOND, "all", "energy_score"]["win_rate_mean"]) == pytest.approx(np.mean(won))


def test_they_stand_in_a_table_of_their_own_and_on_the_page(sampled_runs, capsys):
    compare(sampled_runs, "--markdown")
    tables = {table.splitlines()[0]: table for table in tables_of(capsys.readouterr().out)}
    (main,) = [table for header, table in tables.items() if "energy_score" in header and "paired" not in header]
    assert "| variance_ratio |" in main and "cosine ↑ |" not in main.replace("_cosine", "")
    assert [line.split("|")[1].strip() for line in main.splitlines()[2:]] == [
        "mean image (baseline)", "text as image (baseline)", "ridge", f"*{FIRST}*", SECOND, "upper bound",
    ]  # fmt: skip
    page = Path("compare/page.html").read_text()
    assert "Distribution, 3 samples a caption" in page and "Distribution, 3 samples a caption, unseen pairs" in page


def test_columns_can_be_chosen_and_plotted(sampled_runs, capsys):
    compare(sampled_runs, "--metrics", "spread,mse", "--markdown")
    headers = [part.splitlines()[0] for part in tables_of(capsys.readouterr().out)]
    assert headers[0] == "|  | seeds | mse ↓ |" and "|  | seeds | spread |" in headers
    compare(sampled_runs, "--metrics", "energy_score")
    printed = flowing(capsys)
    assert "centred_cosine" in printed and "variance_ratio" not in printed
    for y in ("unseen/spread", "frechet"):
        compare(sampled_runs, "--plot", "plot.png", "--x", "contrastive_weight", "--y", y)
        with Image.open("plot.png") as image:
            assert image.width > image.height


def test_one_seed_has_the_interval_over_its_images(sampled_runs, capsys):
    compare(sampled_runs / LAST, "--csv", "numbers.csv")
    report = json.loads((sampled_runs / LAST / "latent.json").read_text())["distribution"]["rows"]["this prior"]["all"]
    (row,) = [row for (_, subset, metric), row in numbers().items() if (subset, metric) == ("all", "coverage") and row["n"]]
    assert [float(row[part]) for part in ("mean", "low", "high")] == pytest.approx(report["coverage"])
    assert (row["over"], row["n"]) == ("images", "16")
    assert "upper bound of distributions is the true image itself" in flowing(capsys)


def test_images_drawn_anew_are_not_called_the_true_image(sampled_runs, tmp_path, capsys):
    """Also where only a part of the runs has them, and the bound has two rows."""

    def redraw(report):
        for metrics in report["distribution"]["rows"]["upper_bound"].values():
            metrics["spread"] = [0.4, 0.3, 0.5]

    folder = copy(sampled_runs, tmp_path / "runs")
    for seed in (0, 1):
        edit_report(folder / f"weight_1.0_seed_{seed}", redraw)
    compare(folder)
    said = flowing(capsys)
    assert "the true image itself" not in said and "holds images drawn anew for each caption" in said


def test_other_numbers_of_samples_are_not_compared(sampled_runs, tmp_path, capfd):
    folder = copy(sampled_runs, tmp_path / "runs")
    edit_report(folder / LAST, lambda report: report["distribution"].update(samples=8))
    said = refused(capfd, folder)
    assert "another number of samples a caption: 3 against 8" in said and "--latent.samples=3" in said
    compare(folder, "--anyway", "--markdown")
    tables = tables_of(capfd.readouterr().out)
    marked = [f"{SECOND} †" in table for table in tables]
    assert marked == ["energy_score" in table for table in tables], "only the tables of distributions are marked"


def test_runs_without_samples_stay_in_the_other_tables(sampled_runs, tmp_path, capfd):
    folder = copy(sampled_runs, tmp_path / "runs")
    for seed in (0, 1):
        edit_report(folder / f"weight_1.0_seed_{seed}", lambda report: report.pop("distribution"))
    compare(folder, "--csv", "numbers.csv")
    assert "2 of 4 runs were measured without latent.samples, and are not in the tables of distributions" in flowing(capfd)
    table = numbers()
    assert (SECOND, "all", "cosine") in table and (SECOND, "all", "spread") not in table
    assert ("upper bound", "all", "cosine") in table, "one row of bounds, not one for each kind of run"
    for seed in (0, 1):
        edit_report(folder / f"weight_0.0_seed_{seed}", lambda report: report.pop("distribution"))
    compare(folder)
    assert "energy_score" not in capfd.readouterr().out
    Path("compare/page.html").unlink()
    assert "no run was measured with latent.samples" in refused(capfd, folder, "--metrics", "spread")
    plot = [folder, "--plot", "a.png", "--x", "contrastive_weight", "--y", "spread"]
    assert "no run was measured with latent.samples" in refused(capfd, *plot)
