"""To which training a measurement belongs, when folders were copied and other runs lie at the same paths."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from eclipse_pl.priors.checkpoint import read_checkpoint
from eclipse_pl.priors.prior import tensors_sha256
from eclipse_pl.reports.comparison import Comparison
from eclipse_pl.reports.latent_comparison import Cost
from eclipse_pl.reports.parameter_plot import value_at
from eclipse_pl.reports.report import Report
from eclipse_pl.reports.run_record import RunRecord
from tests.helpers.compared_runs import compare, copy, edit_config, edit_report, flowing
from tests.helpers.scored_folders import edit_card, prior, scored

FIRST, SECOND, OTHER = "weight_0.0_seed_0", "weight_0.0_seed_1", "weight_1.0_seed_0"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def benchmark_of(run: Path, typed: object, folder: Path) -> Path:
    """A benchmark of the run's last checkpoint, whose command named it in this way."""
    content = read_checkpoint(run / "checkpoints" / "last.ckpt")
    tensors = {key.removeprefix("prior."): tensor for key, tensor in content["state_dict"].items()}
    told = {"training_data": content["training_data"], "weights": tensors_sha256(tensors)}
    made = scored(folder, 0, {**prior(typed), **told})
    edit_card(made, lambda card: card.update(trained_steps=content["global_step"]))
    return made


def validation_of(run: Path, typed: str, folder: Path, **changes: Any) -> Path:
    """A run of ``validate`` as it lies in a copied tree, beside a training of it or not."""
    shutil.copytree(run, folder)
    (folder / "checkpoints" / "last.ckpt").unlink()
    edit_report(folder, lambda report: report.update(command="validate"))
    edit_config(folder, ckpt_path=f"{typed}/checkpoints/last.ckpt", **changes)
    return folder


def test_the_run_in_the_copied_tree_is_preferred_to_a_run_of_the_same_path_here(compared_runs, tmp_path):
    copied = copy(compared_runs, tmp_path / "copied" / "runs" / "tiny", FIRST) / FIRST
    copy(compared_runs, Path("runs/tiny"), OTHER)
    Path("runs/tiny", OTHER).rename(Path("runs/tiny", FIRST))
    typed = f"runs/tiny/{FIRST}"
    bench = benchmark_of(copied, typed, tmp_path / "copied" / "bench")
    assert RunRecord.of_benchmark(bench).tested.folder.resolve() == copied
    own = {"run__folder": "runs", "run__experiment": "tiny"}
    measured = validation_of(copied, typed, tmp_path / "copied" / "runs" / "tiny" / "validate_0", **own)
    assert RunRecord.read(measured).training.resolve() == copied


def test_a_tree_is_found_wherever_it_was_moved(compared_runs, tmp_path):
    copied = copy(compared_runs, tmp_path / "copied" / "tiny_of_may", FIRST) / FIRST
    measured = validation_of(copied, f"/gone/runs/tiny/{FIRST}", copied.parent / "validate_0", run__folder="/gone/runs")
    assert RunRecord.read(measured).training.resolve() == copied
    bench = benchmark_of(copied, f"/gone/runs/tiny/{FIRST}", copied.parent / "bench")
    assert RunRecord.of_benchmark(bench).tested.folder.resolve() == copied


@pytest.mark.parametrize(
    ("name", "what"), [(SECOND, "other weights"), (FIRST, "class"), (FIRST, "CLIP"), (FIRST, "training data")]
)
def test_scores_are_not_those_of_another_run_that_lies_there(compared_runs, tmp_path, capsys, name, what):
    bench = benchmark_of(compared_runs / FIRST, f"runs/tiny/{FIRST}", tmp_path / "elsewhere" / "bench")
    copy(compared_runs, Path("runs/tiny"), name)
    there = Path("runs/tiny", FIRST)
    Path("runs/tiny", name).rename(there)
    if what == "class":
        edit_config(there, model__prior__class_path="eclipse_pl.priors.mlp.MlpPrior")
    elif what == "CLIP":
        edit_report(there, lambda report: report["shards"]["space"].update(encoder="another-8"))
    elif what == "training data":
        told = json.loads((there / "training_data.json").read_text())
        (there / "training_data.json").write_text(json.dumps([{**told[0], "sha256": "f" * 64}]))
    record = RunRecord.of_benchmark(bench)
    assert record.tested is None and not record.has_seeds
    compare(bench)
    said = flowing(capsys)
    assert f"{there} is another run than the one behind {bench}" in said and what in said
    assert "nothing was trained here" not in said


@pytest.mark.parametrize("what", ["parameters", "CLIP", "training data", "steps"])
def test_a_table_is_not_that_of_another_run_that_lies_there(compared_runs, tmp_path, capsys, what):
    there = copy(compared_runs, Path("runs/tiny"), FIRST) / FIRST
    measured = validation_of(compared_runs / FIRST, str(there), tmp_path / "elsewhere" / "validate_0")
    assert RunRecord.read(measured).training == there

    def change(report: dict[str, Any]) -> None:
        changes = {
            "parameters": lambda: report["prior"].update(parameters=1),
            "CLIP": lambda: report["shards"]["space"].update(encoder="another-8"),
            "training data": lambda: report["training_data"][0].update(sha256="f" * 64),
            "steps": lambda: report.update(step=5000),
        }
        changes[what]()

    edit_report(measured, change)
    assert RunRecord.read(measured).training == measured
    compare(measured)
    said = flowing(capsys)
    assert f"{there} is another run than the one behind {measured}" in said and what in said


def test_a_run_whose_training_continued_is_still_the_one(compared_runs, tmp_path):
    """Its last checkpoint has other weights now, of a later step, and other shards followed the first ones."""
    there = copy(compared_runs, Path("runs/tiny"), SECOND) / SECOND
    bench = benchmark_of(compared_runs / FIRST, there, tmp_path / "elsewhere" / "bench")
    edit_card(bench, lambda card: card.update(trained_steps=3))
    told = json.loads((there / "training_data.json").read_text())
    (there / "training_data.json").write_text(json.dumps([*told, {**told[0], "sha256": "f" * 64}]))
    assert RunRecord.of_benchmark(bench).tested.folder == there


def test_a_copied_run_that_was_stopped_and_resumed_is_no_other_variant(compared_runs, tmp_path):
    own = copy(compared_runs, tmp_path / "copied" / "tiny", FIRST) / FIRST
    copy(compared_runs, Path("runs/tiny"), FIRST)
    edit_config(own, run__folder="runs", ckpt_path=f"runs/tiny/{FIRST}/checkpoints/last.ckpt")
    assert RunRecord.read(own).config["ckpt_path"] is None


def test_the_home_folder_is_expanded(compared_runs, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    run = copy(compared_runs, tmp_path / "home" / "runs", FIRST) / FIRST
    bench = benchmark_of(run, f"~/runs/{FIRST}", tmp_path / "bench")
    assert RunRecord.of_benchmark(bench).tested.folder == run


def test_benchmarks_have_the_steps_and_sizes_of_the_runs_that_they_tested(compared_runs, tmp_path):
    runs = copy(compared_runs, tmp_path / "runs", FIRST, OTHER)
    benchmarks = [benchmark_of(runs / name, runs / name, tmp_path / f"bench_{name}") for name in (FIRST, OTHER)]
    edit_card(benchmarks[0], lambda card: card.update(trained_steps=3))
    report = Report.of([str(one) for one in benchmarks])
    assert [value_at(variant, "trained_steps") for variant in report.comparison.variants] == [3, 4]
    expected = json.loads((runs / FIRST / "latent.json").read_text())["prior"]
    costs = Cost.of(report.comparison.variants[0])
    assert costs.parameters == expected["parameters"] and costs.trained_parameters == expected["trained_parameters"]
    compare(*benchmarks, "--plot", "steps.svg", "--x", "trained_steps", "--y", "benchmark/color/blip_vqa@8")
    edit_card(benchmarks[0], lambda card: card.pop("trained_steps"))
    (unknown, _) = Comparison.of([str(one) for one in benchmarks]).variants
    assert value_at(unknown, "trained_steps") is None, "no point, and not the beginning of the axis"
