"""The comparison through its front door, on real small runs."""

import json
import math
import shutil
import statistics
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eclipse_pl.callbacks.latent_facts import write_pairs
from eclipse_pl.cli import main as train
from eclipse_pl.intervals import rate_interval, t_quantile
from tests.helpers.compared_runs import SEEDS, WEIGHTS, compare, copy, edit_config, edit_report, flowing, numbers, refused
from tests.helpers.runs import write_experiment

FIRST, SECOND = "contrastive_weight=0.0", "contrastive_weight=1.0"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def values(runs: Path, weight: float, metric: str, subset: str = "all") -> list[float]:
    folders = [runs / f"weight_{weight}_seed_{seed}" for seed in SEEDS]
    return [json.loads((run / "latent.json").read_text())["rows"]["this prior"][subset][metric] for run in folders]


@pytest.mark.long
def test_means_differences_and_intervals_are_those_of_the_runs(compared_runs):
    compare(compared_runs, "--csv", "numbers.csv")
    table = numbers()
    for metric in ("cosine", "mse", "R@1", "hard_negative"):
        for subset in ("all", "unseen"):
            first, second = values(compared_runs, 0.0, metric, subset), values(compared_runs, 1.0, metric, subset)
            row = table[SECOND, subset, metric]
            assert float(row["mean"]) == pytest.approx(statistics.mean(second))
            assert row["n"] == row["difference_n"] == "3"
            apart = [b - a for a, b in zip(first, second, strict=True)]
            assert float(row["difference_mean"]) == pytest.approx(statistics.mean(apart), abs=1e-12)
            if len(set(apart)) > 1:
                half = t_quantile(2) * statistics.stdev(apart) / math.sqrt(3)
                assert float(row["difference_high"]) == pytest.approx(statistics.mean(apart) + half, abs=1e-9)
            assert table[FIRST, subset, metric]["difference_mean"] == ""
    assert float(table["upper bound", "all", "cosine"]["mean"]) == pytest.approx(1)
    assert float(table[SECOND, "", "samples_seen"]["mean"]) == 32
    assert float(table[SECOND, "", "train_seconds"]["mean"]) > 0
    assert table[SECOND, "all", "cosine"]["model.prior.init_args.contrastive_weight"] == "1.0"


def test_win_rates_are_those_of_the_pairs(compared_runs):
    compare(compared_runs, "--csv", "numbers.csv")
    table = numbers()
    pairs = [
        [np.load(compared_runs / f"weight_{weight}_seed_{seed}" / "latent_pairs.npz") for weight in (0.0, 1.0)]
        for seed in SEEDS
    ]
    for metric, column, sign in (("cosine", "cosine", 1), ("mse", "mse", -1), ("R@1", "rank", -1)):
        won = [np.sign(sign * (second[column] - first[column])) / 2 + 0.5 for first, second in pairs]
        expected = rate_interval(np.mean(won, axis=0), np.arange(16))
        row = table[SECOND, "all", metric]
        assert float(row["win_rate_mean"]) == pytest.approx(expected.mean)
        assert float(row["win_rate_low"]) == pytest.approx(expected.low)
        assert row["win_rate_n"] == "16"
    assert table[SECOND, "all", "norm"]["win_rate_mean"] == "", "no direction, no winner"


def test_captions_of_one_image_are_won_or_lost_together(compared_runs, tmp_path):
    folder = copy(compared_runs, tmp_path / "runs", "weight_0.0_seed_0", "weight_1.0_seed_0")
    for run in folder.iterdir():
        with np.load(run / "latent_pairs.npz") as file:
            columns = {name: file[name] for name in file.files}
        columns["group"] = columns["index"] // 4
        write_pairs(run / "latent_pairs.npz", columns)
    compare(folder, "--csv", "numbers.csv")
    first, second = (np.load(folder / f"weight_{weight}_seed_0" / "latent_pairs.npz") for weight in WEIGHTS)
    expected = rate_interval(np.sign(second["cosine"] - first["cosine"]) / 2 + 0.5, first["index"] // 4)
    row = numbers()[SECOND, "all", "cosine"]
    assert expected.n == 4 and row["win_rate_n"] == "4"
    assert [float(row[f"win_rate_{part}"]) for part in ("mean", "low", "high")] == pytest.approx(
        [expected.mean, expected.low, expected.high]
    )


def test_what_is_printed(compared_runs, capsys):
    compare(compared_runs)
    printed = capsys.readouterr().out
    rows = (f"{FIRST} (reference)", SECOND, "mean image (baseline)", "ridge", "upper bound")
    for text in (*rows, "Win rate against", "Cost", "n = 3 seeds"):
        assert text in printed
    assert f"{statistics.mean(values(compared_runs, 1.0, 'cosine')):.2f}" in printed


@pytest.mark.long
def test_another_reference_turns_the_difference_round(compared_runs, capfd):
    compare(compared_runs, "--csv", "numbers.csv")
    forward = float(numbers()[SECOND, "all", "cosine"]["difference_mean"])
    compare(compared_runs, "--csv", "numbers.csv", "--reference", "=1.0")
    assert float(numbers()[FIRST, "all", "cosine"]["difference_mean"]) == pytest.approx(-forward)
    Path("compare/page.html").unlink()
    assert f"they are: {FIRST}; {SECOND}" in refused(capfd, compared_runs, "--reference", "EclipsePrior")
    assert "several variants" in refused(capfd, compared_runs, "--reference", "contrastive")


def test_the_order_of_the_places_is_the_order_of_the_variants(compared_runs, capsys):
    compare(str(compared_runs / "weight_1.0_*"), str(compared_runs / "weight_0.0_*"), "--markdown")
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if "contrastive" in line).startswith("| *contrastive_weight=1.0* | 3 |")


def test_markdown_is_a_table_with_every_cell(compared_runs, capsys):
    compare(compared_runs, "--markdown", "--metrics", "cosine,mse")
    tables = capsys.readouterr().out.split("\n\n")
    rows = [line for line in tables[0].splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {5}
    assert [line.split("|")[1].strip() for line in rows] == [
        "", "---", "mean image (baseline)", "text as image (baseline)", "ridge", f"*{FIRST}*", SECOND, "upper bound",
    ]  # fmt: skip


@pytest.mark.long
def test_a_plot_of_a_metric_against_a_parameter(compared_runs, capfd):
    compare(compared_runs, "--plot", "plots/weight.png", "--x", "contrastive_weight", "--y", "unseen/cosine")
    with Image.open("plots/weight.png") as image:
        assert image.width > image.height > 300
        assert len(image.convert("RGB").getcolors(1 << 20)) > 10
    compare(compared_runs, "--plot", "cost.svg", "--x", "samples_seen", "--y", "mse")
    assert Path("cost.svg").read_text().rstrip().endswith("</svg>")
    Path("compare/page.html").unlink()
    plot = [compared_runs, "--plot", "a.png"]
    assert "go together" in refused(capfd, *plot)
    assert "contrastive_weight, trained_steps, samples_seen" in refused(capfd, *plot, "--x", "temperature", "--y", "cosine")
    assert "the metrics are cosine" in refused(capfd, *plot, "--x", "contrastive_weight", "--y", "cosines")
    assert "all, seen, unseen" in refused(capfd, *plot, "--x", "contrastive_weight", "--y", "other/cosine")
    assert ".png, .pdf, .svg" in refused(capfd, compared_runs, "--plot", "a.gif", "--x", "contrastive_weight", "--y", "cosine")
    assert not Path("a.png").exists()


def test_one_run_is_compared_with_baselines_and_upper_bound(compared_runs, capsys):
    compare(compared_runs / "weight_1.0_seed_0")
    printed = capsys.readouterr().out
    assert "n = 1 seed (every row): no interval" in printed
    assert "tiny" in printed and "upper bound" in printed and "Win rate" not in printed
    assert "±" not in printed.split("What may not")[0].split("Mean over seeds")[0]


def test_unequal_seeds_are_paired_over_the_common_ones(compared_runs, tmp_path, capsys):
    names = ("weight_0.0_seed_0", "weight_0.0_seed_1", "weight_1.0_seed_1", "weight_1.0_seed_2")
    compare(copy(compared_runs, tmp_path / "some", *names), "--csv", "numbers.csv")
    assert numbers()[SECOND, "all", "cosine"]["difference_n"] == "1"
    assert f"{SECOND} has seeds 1, 2, {FIRST} has 0, 1: their difference is over the 1 in common." in flowing(capsys)
    compare(copy(compared_runs, tmp_path / "none", "weight_0.0_seed_0", "weight_1.0_seed_1"), "--csv", "numbers.csv")
    assert numbers()[SECOND, "all", "cosine"]["difference_n"] == ""
    assert "share no seed" in flowing(capsys)


def test_equal_runs_are_reported_as_equal_and_not_better(compared_runs, tmp_path, capsys):
    folder = copy(compared_runs, tmp_path / "twins", *(f"weight_0.0_seed_{seed}" for seed in SEEDS))
    for seed in SEEDS:
        shutil.copytree(folder / f"weight_0.0_seed_{seed}", folder / f"weight_9_seed_{seed}")
        edit_config(folder / f"weight_9_seed_{seed}", model__prior__init_args__contrastive_weight=9.0)
    compare(folder, "--csv", "numbers.csv")
    row = numbers()["contrastive_weight=9.0", "all", "cosine"]
    assert (row["difference_mean"], row["difference_low"], row["win_rate_mean"]) == ("0.0", "", "0.5")
    table = capsys.readouterr().out.split("Difference from")[1].split("Mean over")[0]
    assert "▲" not in table and "▼" not in table


def test_a_metric_without_a_number_is_said(compared_runs, tmp_path, capsys):
    folder = copy(compared_runs, tmp_path / "nan")
    edit_report(folder / "weight_1.0_seed_1", lambda report: report["rows"]["this prior"]["all"].update(cosine=None))
    compare(folder, "--csv", "numbers.csv")
    assert f"{folder / 'weight_1.0_seed_1'} has no number for cosine" in flowing(capsys)
    assert numbers()[SECOND, "all", "cosine"]["mean"] == ""
    assert numbers()[SECOND, "all", "mse"]["mean"] != ""


def test_ridge_rows_that_differ_stand_apart(compared_runs, tmp_path, capsys):
    folder = copy(compared_runs, tmp_path / "ridge")
    for seed in SEEDS:
        edit_report(folder / f"weight_1.0_seed_{seed}", lambda report: report["rows"]["ridge"]["all"].update(cosine=0.5))
    compare(folder, "--markdown")
    printed = capsys.readouterr().out
    assert f"ridge: {FIRST}" in printed and f"ridge: {SECOND}" in printed
    assert printed.count("mean image") == 1


def test_a_schedule_that_was_not_finished_is_said(compared_runs, tmp_path, capsys):
    folder = copy(compared_runs, tmp_path / "runs")
    edit_report(folder / "weight_1.0_seed_1", lambda report: report.update(schedule_steps=4))
    compare(folder)
    assert "schedule of the learning rate" not in flowing(capsys)
    edit_report(folder / "weight_1.0_seed_1", lambda report: report.update(schedule_steps=800))
    compare(folder)
    said = f"was not finished in 1 of 6 runs: {folder / 'weight_1.0_seed_1'} (step 4 of 800)."
    assert said in flowing(capsys) and "was not finished in 1 of 6 runs" in Path("compare/page.html").read_text()


@pytest.mark.long
def test_a_run_shorter_than_its_schedule_and_one_that_was_stopped(tmp_path, capsys):
    scheduler = {"class_path": "torch.optim.lr_scheduler.OneCycleLR", "init_args": {"max_lr": 1e-3, "total_steps": 6}}
    experiment = write_experiment(tmp_path, model__scheduler=scheduler, trainer__max_steps=4, trainer__val_check_interval=2)
    command = ["fit", "--config", str(experiment)]
    train([*command, "--run.version=short"])
    train([*command, "--run.version=whole", "--trainer.max_steps=6"])
    as_long = [*command, "--run.version=stopped", "--model.scheduler.init_args.total_steps=null", "--trainer.max_steps=100000"]
    train([*as_long, "--trainer.max_time=00:00:00:02"])
    runs = tmp_path / "runs" / "tiny"
    compare(*(runs / name for name in ("short", "whole", "stopped")))
    said = flowing(capsys)
    assert f"was not finished in 2 of 3 runs: {runs / 'short'} (step 4 of 6); {runs / 'stopped'} (step " in said
    assert "of 100,000)" in said


def test_times_of_different_machines_are_not_compared(compared_runs, tmp_path, capsys):
    folder = copy(compared_runs, tmp_path / "machines")
    edit_report(folder / "weight_1.0_seed_1", lambda report: report["machine"].update(gpu="Some GPU"))
    compare(folder)
    assert "Times were measured on 2 machines" in flowing(capsys)


@pytest.mark.long
def test_runs_of_test_take_seeds_and_costs_from_the_run_that_trained(compared_runs, tmp_path, capsys):
    folder = copy(compared_runs, tmp_path / "tested", "weight_0.0_seed_1", "weight_1.0_seed_1")
    for name in ("weight_0.0_seed_1", "weight_1.0_seed_1"):
        config = folder / name / "config.yaml"
        options = [f"--run.folder={tmp_path}", "--run.experiment=tested", f"--run.version=test_{name}", "--seed_everything=7"]
        train(["test", "--config", str(config), "--ckpt_path", str(folder / name), *options])
    compare(folder, "--csv", "numbers.csv")
    assert "2 runs of validate or test" in flowing(capsys)
    compare(folder / "test_*", "--csv", "numbers.csv")
    row = numbers()[SECOND, "all", "cosine"]
    tested = json.loads((folder / "test_weight_1.0_seed_1" / "latent.json").read_text())
    assert float(row["mean"]) == tested["rows"]["this prior"]["all"]["cosine"]
    assert row["difference_n"] == "1"
    assert float(numbers()[SECOND, "", "samples_seen"]["mean"]) == 32
    assert "the test split" in Path("compare/page.html").read_text()
    assert "polyline" in Path("compare/page.html").read_text(), "curves of the training run"


@pytest.mark.long
def test_a_prior_measured_with_other_settings_is_another_variant(compared_runs, tmp_path, capsys):
    folder = copy(compared_runs, tmp_path / "sampled", "weight_0.0_seed_0")
    run = folder / "weight_0.0_seed_0"
    for noise in ("gaussian", "zero"):
        options = [f"--run.folder={tmp_path}", "--run.experiment=sampled", f"--run.version=v_{noise}"]
        options += [f"--model.prior.init_args.noise={noise}"]
        train(["validate", "--config", str(run / "config.yaml"), "--ckpt_path", str(run), *options])
    compare(folder / "v_*", "--csv", "numbers.csv")
    assert {name for name, *_ in numbers()} >= {"noise=gaussian", "noise=zero"}
    said = flowing(capsys)
    assert "noise is that of the measurement, not of training, in 1 of 2 runs" in said
    assert "(measured with zero, trained with gaussian)" in said
    compare(folder / "v_*", "--vary", "noise", "--csv", "numbers.csv")
    assert {name for name, *_ in numbers()} >= {"noise=gaussian", "noise=zero"}
    assert "is that of the measurement" not in flowing(capsys), "what is studied needs no warning"


def test_a_run_stopped_and_resumed_is_no_other_variant(compared_runs, tmp_path):
    folder = copy(compared_runs, tmp_path / "resumed", "weight_0.0_seed_0", "weight_0.0_seed_1")
    run = folder / "weight_0.0_seed_1"
    edit_config(run, ckpt_path=str(run / "checkpoints" / "last.ckpt"))
    compare(folder, "--csv", "numbers.csv")
    assert numbers()["tiny", "all", "cosine"]["n"] == "2"
    edit_config(run, ckpt_path="runs/another/version_0/checkpoints/last.ckpt")
    compare(folder, "--csv", "numbers.csv")
    assert "tiny" not in {name for name, *_ in numbers()}, "weights of another run make another variant"
