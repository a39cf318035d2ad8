"""A run stopped anywhere and resumed is the uninterrupted run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from eclipse_pl.cli import main
from eclipse_pl.metrics_file import read_metrics
from tests.runs import metrics, started, wait_for, write_experiment

STEPS = 10  # 8 batches an epoch: one epoch ends inside the run


def fit(experiment: Path, *more: str) -> None:
    main(["fit", "--config", str(experiment), *more])


def fit_killed_by(trap: str, experiment: Path) -> None:
    """In a process of its own, after the lines of ``trap``, which set where it kills itself."""
    code = f"import os, signal\nfrom eclipse_pl.cli import main\n{trap}main(['fit', '--config', {str(experiment)!r}])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == -signal.SIGKILL


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def assert_same_run(run: Path, reference: Path) -> None:
    ours, theirs = metrics(run), metrics(reference)
    assert ours.keys() == theirs.keys()
    for step, expected in theirs.items():
        assert ours[step] == pytest.approx(expected, rel=1e-6, abs=1e-6, nan_ok=True), step
    for name, tensor in weights(reference).items():
        torch.testing.assert_close(weights(run)[name], tensor, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    fit(write_experiment(folder))
    return folder / "runs" / "tiny" / "version_0"


@pytest.mark.parametrize("stop", [1, 3, 7, 8, 9])  # alone, with a validation due, before, at and after the end of an epoch
def test_stopped_after_any_step(tmp_path, reference, stop):
    experiment = write_experiment(tmp_path)
    fit(experiment, "--trainer.max_steps", str(stop))
    run = tmp_path / "runs" / "tiny" / "version_0"
    fit(experiment, "--ckpt_path", str(run))
    assert_same_run(run, reference)
    assert [path.name for path in run.parent.iterdir()] == ["version_0"]


def test_killed_during_a_validation(tmp_path, reference):
    """The validation of the step is made again: no checkpoint lies between a step and its validation."""
    experiment = write_experiment(tmp_path)
    fit_killed_by(
        "from eclipse_pl.lit_prior import LitPrior\n"
        "def kill(self, batch, index):\n    if self.global_step == 6:\n        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return step(self, batch, index)\n"
        "step, LitPrior.validation_step = LitPrior.validation_step, kill\n",
        experiment,
    )
    run = tmp_path / "runs" / "tiny" / "version_0"
    fit(experiment, "--ckpt_path", str(run))
    assert_same_run(run, reference)


def test_killed_right_after_a_checkpoint(tmp_path, reference):
    """What the step of a checkpoint logged is on disk before the checkpoint is."""
    experiment = write_experiment(tmp_path, checkpoint__every_n_steps=2)
    fit_killed_by(
        "from eclipse_pl.callbacks.checkpoints import Checkpoints\n"
        "def kill(self, trainer):\n    save(self, trainer)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "save, Checkpoints.save_last_state = Checkpoints.save_last_state, kill\n",
        experiment,
    )
    run = tmp_path / "runs" / "tiny" / "version_0"
    assert sorted(metrics(run)) == [0, 1]
    fit(experiment, "--ckpt_path", str(run))
    assert_same_run(run, reference)
    assert [int(row["step"]) for row in read_metrics(run / "metrics.csv")].count(3) == 1  # not once more for its checkpoint


def test_resumed_with_weight_averaging(tmp_path):
    average = {"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.5}}
    runs = []
    for stops in ((10,), (6, 10)):
        folder = tmp_path / str(len(stops))
        folder.mkdir()
        runs.append(folder / "runs" / "tiny" / "version_0")
        experiment = write_experiment(folder, average=average)
        for number, stop in enumerate(stops):
            fit(experiment, f"--trainer.max_steps={stop}", *(["--ckpt_path", str(runs[-1])] if number else []))
    assert_same_run(runs[1], runs[0])


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_killed_inside_an_epoch_with_two_workers(tmp_path, reference, context):
    experiment = write_experiment(
        tmp_path, data__init_args__workers=2, data__init_args__multiprocessing_context=context, checkpoint__every_n_steps=2
    )
    run = tmp_path / "runs" / "tiny" / "version_0"
    command = [sys.executable, "-m", "eclipse_pl", "fit", "--config", str(experiment), "--trainer.max_steps", "100000"]
    with started(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        wait_for(run / "checkpoints" / "last.ckpt")
        os.killpg(process.pid, signal.SIGKILL)
    done = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    steps = str(done + 5)
    fit(experiment, "--trainer.max_steps", steps, "--ckpt_path", str(run))
    whole = write_experiment(tmp_path / "whole") if (tmp_path / "whole").mkdir() is None else None
    fit(whole, "--trainer.max_steps", steps)
    assert_same_run(run, tmp_path / "whole" / "runs" / "tiny" / "version_0")


def test_ctrl_c_writes_a_checkpoint_that_resumes(tmp_path, reference):
    experiment = write_experiment(tmp_path, checkpoint__every_n_steps=10**6)
    run = tmp_path / "runs" / "tiny" / "version_0"
    command = [sys.executable, "-m", "eclipse_pl", "fit", "--config", str(experiment), "--trainer.max_steps", "100000"]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        wait_for(run / "metrics.csv")  # the first steps are done, and others under way
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in output
    assert "--ckpt_path" in output
    done = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    fit(experiment, "--trainer.max_steps", str(done + 3), "--ckpt_path", str(run))
    assert sorted(metrics(run)) == list(range(done + 3))
    shared = min(done + 3, STEPS)
    expected = metrics(reference)
    for step in range(shared):
        assert metrics(run)[step] == pytest.approx(expected[step], rel=1e-6, abs=1e-6, nan_ok=True), step
