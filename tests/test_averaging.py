"""Weight averaging: one set of weights, the averaged ones, for all that a run reports and for what is made of it later."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from eclipse_pl.__main__ import main as command
from eclipse_pl.cli import main
from tests.helpers.pipelines import kandinsky
from tests.helpers.runs import metrics, write_experiment
from tests.helpers.runs_with_images import PRIOR, PROTOCOL, experiment
from tests.test_resume import callback

pytestmark = pytest.mark.long

AVERAGE = {"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.5}}
FAST = {"model__optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.03}}, "average": AVERAGE}
"""So fast that an average is far from the weights that it averages."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("averaging")
    kandinsky(folder / "decoder", dim=128)
    return folder


def fitted(folder: Path, name: str, *more: str, **changes: Any) -> Path:
    assert command(["fit", "--config", str(experiment(folder, name, **{**FAST, **changes})), *more]) == 0
    return folder / name / "runs" / "tiny" / "version_0"


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    return fitted(folder, "run")


def state(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return {name: checkpoint[name] for name in ("state_dict", "current_model_state", "averaging_state")}


def part(folder: Path, run: Path, name: str) -> str:
    """A part of the run's own config, as a file."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config["benchmark"]["protocol"] if name == "protocol" else config[name]))
    return str(path)


def files(folder: Path) -> dict[str, bytes]:
    """Of a benchmark, without what says of whom it is."""
    told = ("benchmark.json", "benchmark.yaml", "scorecard.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*") if path.name not in told}


@pytest.mark.processes
@pytest.mark.parametrize("when", ["at validation", "after training"])
def test_the_benchmark_of_a_run_is_that_of_its_checkpoint(folder: Path, run: Path, when: str) -> None:
    if when == "after training":
        run = fitted(folder, "after", benchmark={"after_training": True, "protocol": PROTOCOL}, samples={})
    parts = {"decoder": part(folder, run, "decoder"), "protocol": part(folder, run, "protocol")}
    out = folder / when
    words = [f"--{name}={value}" for name, value in parts.items()]
    assert command(["benchmark", f"--prior={run}", f"--out={out}", *words]) == 0
    ours = run / "benchmark" / "step_0000006"
    assert files(out) == files(ours) and len(files(out)) > 12
    cards = [json.loads((one / "scorecard.json").read_text()) for one in (run, ours, out)]
    for card in cards:
        card["text_to_image"].pop("prior")
        assert {card.pop("step", 6), card.pop("trained_steps", 6)} == {6}
    assert cards[0] == cards[1] == cards[2], "weights and all; they differ in the name of the prior alone"


def test_samples_show_the_averaged_weights(folder: Path, run: Path) -> None:
    """Those of the middle of a training, from the checkpoint of a training that ended there."""
    early = fitted(folder, "early", "--trainer.max_steps=4", samples={}, benchmark={})
    for ended, step in ((early, 4), (run, 6)):
        out = folder / f"samples_{step}"
        words = ["--prompt", '["a red star", "two blue squares"]', "--seed=3", "--count=2", f"--out={out}"]
        assert command(["sample", f"--prior={ended}", f"--decoder={part(folder, run, 'decoder')}", *words]) == 0
        assert (out / "contact_sheet.png").read_bytes() == (run / "samples" / f"step_{step:07d}.png").read_bytes()


def test_training_does_not_notice_what_is_generated_and_scored(folder: Path, run: Path) -> None:
    alone = fitted(folder, "alone", samples={}, benchmark={}, decoder=None)
    for name, tensors in state(alone).items():
        assert all(torch.equal(tensors[key], state(run)[name][key]) for key in tensors), name
    averaged, raw = state(alone)["state_dict"], state(alone)["current_model_state"]
    assert any(not torch.equal(averaged[key], raw[key]) for key in averaged)
    without = metrics(alone)
    for step, values in metrics(run).items():
        assert {name: value for name, value in values.items() if not name.startswith("benchmark/")} == without[step]


def test_a_resumed_run_scores_the_same(folder: Path, run: Path) -> None:
    resumed = fitted(folder, "resumed", "--trainer.max_steps=3")
    config = str(folder / "resumed" / "experiment.yaml")
    assert command(["fit", "--config", config, "--ckpt_path", str(resumed)]) == 0
    assert metrics(resumed) == metrics(run)
    for step in (2, 4, 6):
        assert files(resumed / f"benchmark/step_{step:07d}") == files(run / f"benchmark/step_{step:07d}")
    for name, tensors in state(resumed).items():
        assert all(torch.equal(tensors[key], state(run)[name][key]) for key in tensors), name


def test_images_of_other_weights_make_room(folder: Path, run: Path) -> None:
    """A run that was killed while it generated, and resumed, need not come to the same step with the same weights to a bit."""
    resumed = fitted(folder, "room", "--trainer.max_steps=2")
    benchmarks = resumed / "benchmark"
    shutil.copytree(benchmarks / "step_0000002", benchmarks / "step_0000004")
    config = str(folder / "room" / "experiment.yaml")
    assert command(["fit", "--config", config, "--ckpt_path", str(resumed), "--trainer.max_steps=4"]) == 0
    assert files(benchmarks / "step_0000004") == files(run / "benchmark/step_0000004") != files(benchmarks / "step_0000002")


@pytest.mark.parametrize("subcommand", ["validate", "test"])
def test_an_averaged_run_is_evaluated_without_a_word_of_warning(run: Path, subcommand: str) -> None:
    assert command([subcommand, "--config", str(run / "config.yaml"), "--ckpt_path", str(run)]) == 0
    ours, theirs = (json.loads((one / "scorecard.json").read_text()) for one in (run, run.parent / f"{subcommand}_0"))
    assert ours["scores"] == theirs["scores"]


def test_what_never_changes_is_not_averaged(tmp_path: Path) -> None:
    """The noise schedule is a buffer that no checkpoint holds, and 0.9 x + 0.1 x is not x."""
    average = {**AVERAGE, "init_args": {"decay": 0.9}}
    prior = {"class_path": "eclipse_pl.priors.diffusion.DiffusionPrior", "init_args": {**PRIOR, "steps": 3}}
    config = write_experiment(tmp_path, average=average, model__prior=prior, trainer__val_check_interval=10)
    run = tmp_path / "runs/tiny/version_0"
    assert command(["fit", "--config", str(config)]) == 0
    assert command(["validate", "--config", str(config), "--ckpt_path", str(run)]) == 0
    ours, theirs = (np.load(one / "latent_pairs.npz") for one in (run, run.parent / "validate_0"))
    assert all(np.array_equal(ours[name], theirs[name], equal_nan=ours[name].dtype.kind == "f") for name in ours)


@pytest.mark.parametrize("start", [4, 100], ids=["averaging begins", "averaging never begins"])
def test_before_its_first_update_the_average_is_what_was_trained(
    tmp_path: Path, start: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The validation, the checkpoint and the end of a run do not bring back the weights that training began with."""
    average = {**AVERAGE, "init_args": {"decay": 0.5, "update_starting_at_step": start}}
    plain = write_experiment(tmp_path / "plain", trainer__max_steps=3)
    late = write_experiment(tmp_path / "late", trainer__max_steps=3, average=average)
    for config in (plain, late):
        assert command(["fit", "--config", str(config)]) == 0
    ours, theirs = (tmp_path / name / "runs/tiny/version_0" for name in ("late", "plain"))
    assert metrics(ours) == metrics(theirs)
    saved, raw = state(ours)["state_dict"], state(ours)["current_model_state"]
    trained = torch.load(theirs / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(saved[key], trained[key]) and torch.equal(raw[key], trained[key]) for key in trained)

    caplog.clear()
    assert command(["fit", "--config", str(late), "--ckpt_path", str(ours), "--trainer.max_steps=7"]) == 0
    said = "No weights will be averaged: update_starting_at_step is 100, and trainer.max_steps is 7."
    assert (said in caplog.text) == (start == 100)
    whole = write_experiment(tmp_path / "whole", trainer__max_steps=7, average=average)
    assert command(["fit", "--config", str(whole)]) == 0
    for name, tensors in state(tmp_path / "whole/runs/tiny/version_0").items():
        assert all(torch.equal(tensors[key], state(ours)[name][key]) for key in tensors), name
    differ = any(not torch.equal(state(ours)["state_dict"][key], state(ours)["current_model_state"][key]) for key in saved)
    assert differ == (start == 4)


def test_a_step_whose_callback_fails_is_saved_with_its_own_weights(tmp_path: Path) -> None:
    average = {**AVERAGE, "init_args": {"decay": 0.5, "update_starting_at_step": 100}}
    failing = [callback("FailAtBatch", batch=3, when="end")]
    changes = {"average": average, "trainer__callbacks": failing, "checkpoint__every_n_steps": 100}
    with pytest.raises(RuntimeError, match="on purpose"):
        main(["fit", "--config", str(write_experiment(tmp_path, **changes))])
    left = state(tmp_path / "runs/tiny/version_0")
    assert all(torch.equal(tensor, left["current_model_state"][key]) for key, tensor in left["state_dict"].items())


def test_an_average_that_would_never_be_updated(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    average = {**AVERAGE, "init_args": {"update_every_n_steps": 0}}
    assert command(["fit", "--config", str(write_experiment(tmp_path, average=average))]) == 2
    assert "update_every_n_steps is 0; it must be 1 (after every step) or more." in capfd.readouterr().err


@pytest.mark.parametrize("kind", ["LinearPrior", "MeanImagePrior"])
def test_a_prior_without_gradients_has_nothing_to_average(
    tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    prior = {"class_path": f"eclipse_pl.priors.baselines.{kind}"}
    assert command(["fit", "--config", str(write_experiment(tmp_path, average=AVERAGE, model__prior=prior))]) == 2
    assert f"{kind} has no weights that change with the steps, so there is nothing to average" in capfd.readouterr().err


def test_averages_that_no_validation_would_hold(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    average = {**AVERAGE, "init_args": {"update_starting_at_epoch": 2}}
    assert command(["fit", "--config", str(write_experiment(tmp_path, average=average))]) == 2
    assert "EMAWeightAveraging averages at the end of an epoch" in capfd.readouterr().err
    twice = write_experiment(
        tmp_path, average=AVERAGE, trainer__callbacks=[{"class_path": "lightning.pytorch.callbacks.WeightAveraging"}]
    )
    assert command(["fit", "--config", str(twice)]) == 2
    assert "2 callbacks average the weights; keep one" in capfd.readouterr().err
