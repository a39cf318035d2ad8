"""A run stopped anywhere and resumed is the uninterrupted run."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Timer

from eclipse_pl.callbacks.slurm import NOTE, forget_job, note_job, requeued_run
from eclipse_pl.cli import main
from eclipse_pl.run import read_metrics
from tests.helpers.runs import metrics, started, wait_for, write_experiment

pytestmark = pytest.mark.long

STEPS = 10  # 8 batches an epoch: one epoch ends inside the run


def fit(experiment: Path, *more: str) -> None:
    main(["fit", "--config", str(experiment), *more])


def fit_killed_by(trap: str, experiment: Path) -> None:
    """In a process of its own, after the lines of ``trap``, which set where it kills itself."""
    code = f"import os, signal\nfrom eclipse_pl.cli import main\n{trap}main(['fit', '--config', {str(experiment)!r}])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == -signal.SIGKILL


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Those of the prior, and with weight averaging also those that are trained on."""
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    raw = checkpoint.get("current_model_state", {})
    return {**checkpoint["state_dict"], **{f"raw {name}": tensor for name, tensor in raw.items()}}


def assert_same_run(run: Path, reference: Path) -> None:
    ours, theirs = metrics(run), metrics(reference)
    assert ours.keys() == theirs.keys()
    for step, expected in theirs.items():
        assert ours[step] == pytest.approx(expected, rel=1e-6, abs=1e-6, nan_ok=True), step
    got, expected = weights(run), weights(reference)
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(got[name], tensor, rtol=0, atol=1e-6)


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


@pytest.mark.processes
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


@pytest.mark.processes
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
    fit(experiment, "--trainer.max_time", "99:00:00:00", "--ckpt_path", str(run))
    assert_same_run(run, reference)
    assert [int(row["step"]) for row in read_metrics(run / "metrics.csv")].count(3) == 1  # not once more for its checkpoint


AVERAGE = {"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.5}}


def callback(name: str, **arguments) -> dict:
    home = "tests.helpers.stopping" if "." not in name else None
    return {"class_path": f"{home}.{name}" if home else name, "init_args": arguments}


def in_folder(folder: Path, **changes) -> tuple[Path, Path]:
    """An experiment of its own, and the folder of its run."""
    folder.mkdir()
    return write_experiment(folder, **changes), folder / "runs" / "tiny" / "version_0"


def test_resumed_with_weight_averaging(tmp_path):
    runs = []
    for stops in ((10,), (6, 10)):
        experiment, run = in_folder(tmp_path / str(len(stops)), average=AVERAGE)
        runs.append(run)
        for number, stop in enumerate(stops):
            fit(experiment, f"--trainer.max_steps={stop}", *(["--ckpt_path", str(run)] if number else []))
    assert_same_run(runs[1], runs[0])


@pytest.mark.parametrize("batches", [4, 3])  # a step is made of that many; 3 do not divide the 8 batches of an epoch
def test_killed_after_any_batch_of_a_step(tmp_path, batches):
    """No checkpoint lies inside a step, whose gradients it would lack; nor does a validation."""
    steps = {"trainer__accumulate_grad_batches": batches, "trainer__max_steps": {4: 4, 3: 6}[batches]}
    steps |= {"model__log_gradient_norms_every": 1}
    experiment, whole = in_folder(tmp_path / "whole", **steps)
    snapshots = callback("Snapshots", folder=str(tmp_path / "killed"))
    fit(experiment, "--trainer.callbacks", json.dumps([snapshots]))
    assert {4: [0, 1, 2, 3], 3: [0, 1, 2, 3, 4, 5]}[batches] == sorted(metrics(whole))
    ends = {4: [4, 8, 12, 16], 3: [3, 6, 8, 11, 14, 16]}[batches]
    assert [metrics(whole)[step]["samples_seen"] for step in sorted(metrics(whole))] == [8 * end for end in ends]
    last = None
    for killed in range(ends[0], 16):
        run = tmp_path / "killed" / str(killed)
        step = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
        assert step == sum(end <= killed for end in ends)
        if step == last:  # the same state as one batch before
            continue
        last = step
        resumed = tmp_path / "resumed" / str(killed) / "tiny" / "version_0"
        shutil.copytree(run, resumed)
        fit(experiment, "--run.folder", str(resumed.parent.parent), "--ckpt_path", str(resumed))
        assert_same_run(resumed, whole)


EARLY = {"monitor": "val/cosine", "mode": "max", "stopping_threshold": -1.0}
LATE = callback("lightning.pytorch.callbacks.EarlyStopping", **{**EARLY, "stopping_threshold": 2.0})
STOPS = {
    "inside an epoch": callback("StopAtBatch", batches=4),
    "with a validation due": callback("StopAtBatch", batches=3),
    "at the last batch of an epoch": callback("StopAtBatch", batches=8),
    "when an epoch is closed": callback("StopAtEpochEnd"),
    "after a validation": callback("lightning.pytorch.callbacks.EarlyStopping", **EARLY),
    "early, when an epoch is closed": callback(
        "lightning.pytorch.callbacks.EarlyStopping", **EARLY, check_on_train_epoch_end=True
    ),
}


@pytest.mark.parametrize("average", [None, AVERAGE], ids=["raw", "averaged"])
@pytest.mark.parametrize("stop", STOPS)
def test_whatever_asks_a_run_to_stop(tmp_path, stop, average):
    """The state is that of the step after which it stopped, from before the epoch was closed."""
    changes = {"checkpoint__every_n_steps": 10**6, "trainer__log_every_n_steps": 2}
    changes |= {} if average is None else {"average": average}
    experiment, run = in_folder(tmp_path / "stopped", **changes)
    fit(experiment, "--trainer.callbacks", json.dumps([STOPS[stop]]))
    assert max(metrics(run)) < STEPS - 1
    table = json.loads((run / "latent.json").read_text())
    assert (
        table["step"] == max(metrics(run)) + 1 == torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"]
    )
    later = ["--trainer.callbacks", json.dumps([LATE])] if "EarlyStopping" in STOPS[stop]["class_path"] else []
    fit(experiment, *later, "--ckpt_path", str(run))
    experiment, whole = in_folder(tmp_path / "whole", **changes)
    fit(experiment)
    assert_same_run(run, whole)


def test_stopped_by_max_time(tmp_path, monkeypatch):
    """Inside a step of several batches, which is ended first."""
    changes = {"trainer__accumulate_grad_batches": 3, "trainer__max_steps": 5, "checkpoint__every_n_steps": 10**6}
    experiment, run = in_folder(tmp_path / "stopped", **changes)
    clock = iter(range(10**6))
    with monkeypatch.context() as patch:
        patch.setattr(Timer, "time_elapsed", lambda self, stage=None: float(next(clock)))
        fit(experiment, "--trainer.max_time", "00:00:00:04")  # asked before training, and after each batch
    assert sorted(metrics(run)) == [0, 1]
    fit(experiment, "--trainer.max_time", "99:00:00:00", "--ckpt_path", str(run))
    experiment, whole = in_folder(tmp_path / "whole", **changes)
    fit(experiment)
    assert_same_run(run, whole)


@pytest.mark.processes
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


def test_every_fit_ends_with_its_validation_and_its_table(tmp_path):
    """Also one that is shorter than the first validation, and one that is resumed at its end; neither leaves rows twice."""
    experiment, run = in_folder(tmp_path / "short", trainer__max_steps=2, trainer__val_check_interval=1000)
    fit(experiment)
    logged = read_metrics(run / "metrics.csv")
    assert "val/cosine" in metrics(run)[1] and "train/total" in metrics(run)[1]
    table = json.loads((run / "latent.json").read_text())
    for name in ("latent.json", "finished.json"):
        (run / name).unlink()
    fit(experiment, "--ckpt_path", str(run))
    again = json.loads((run / "latent.json").read_text())
    assert (again["step"], again["rows"]["this prior"]) == (2, table["rows"]["this prior"])
    assert (run / "finished.json").exists()
    assert [row["step"] for row in read_metrics(run / "metrics.csv")] == [row["step"] for row in logged]
    epochs = {"trainer__max_epochs": 1, "trainer__max_steps": -1, "trainer__check_val_every_n_epoch": 5}
    experiment, run = in_folder(tmp_path / "epoch", **epochs, trainer__val_check_interval=1.0)
    fit(experiment)
    assert "val/cosine" in metrics(run)[7]
    assert (run / "latent.json").exists()


def test_each_batch_of_each_epoch_draws_its_own_noise(tmp_path):
    fit(write_experiment(tmp_path, trainer__max_steps=24, trainer__callbacks=[callback("Seeds", folder=str(tmp_path))]))
    assert len(set((tmp_path / "0.txt").read_text().split())) == 24


@pytest.mark.parametrize("when", ["start", "end", "validation"])
@pytest.mark.parametrize("batch", [6, 8])  # of the second step of three batches; at the end of an epoch
def test_a_run_that_fails_leaves_its_last_good_step(tmp_path, batch, when):
    """That of the failure, where it was made before, with the validation that it owes."""
    changes = {"trainer__accumulate_grad_batches": 3, "trainer__max_steps": 5, "checkpoint__every_n_steps": 10**6}
    changes |= {"trainer__val_check_interval": 2}
    experiment, run = in_folder(tmp_path / "failed", **changes)
    with pytest.raises(RuntimeError, match="on purpose"):
        fit(experiment, "--trainer.callbacks", json.dumps([callback("FailAtBatch", batch=batch, when=when)]))
    left = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    ends = [3, 6, 8]
    assert left["global_step"] == sum(end < batch or (end == batch and when != "start") for end in ends)
    fit(experiment, "--ckpt_path", str(run))
    experiment, whole = in_folder(tmp_path / "whole", **changes)
    fit(experiment)
    assert_same_run(run, whole)


def test_a_run_that_fails_before_its_first_step_leaves_its_checkpoint_alone(tmp_path):
    """Also where it began from an older state than the last."""
    experiment, run = in_folder(tmp_path / "failed", trainer__max_steps=4, checkpoint__monitor="val/cosine")
    fit(experiment)
    (best,) = (run / "checkpoints").glob("best-*.ckpt")
    before = (run / "checkpoints" / "last.ckpt").read_bytes()
    with pytest.raises(RuntimeError, match="on purpose"):
        failing = json.dumps([callback("FailAtBatch", batch=0, when="before")])
        fit(experiment, "--trainer.max_steps=9", "--trainer.callbacks", failing, "--ckpt_path", str(best))
    assert (run / "checkpoints" / "last.ckpt").read_bytes() == before


@pytest.mark.parametrize("again", ["relative", "absolute"])
def test_the_best_checkpoint_is_known_however_the_folder_is_written(tmp_path, monkeypatch, again):
    """A run that is resumed has an absolute one. With a learning rate of 0 no later validation is better."""
    monkeypatch.chdir(tmp_path)
    experiment, run = in_folder(tmp_path / "resumed", checkpoint__monitor="val/cosine", trainer__val_check_interval=2)
    written = {"relative": "resumed/runs", "absolute": str(tmp_path / "resumed" / "runs")}
    fit(experiment, "--trainer.max_steps=2", "--run.folder", written["relative"])
    still = ["--model.optimizer.init_args.lr=0.0", "--model.optimizer.init_args.weight_decay=0.0"]
    fit(experiment, "--trainer.max_steps=4", "--run.folder", written[again], "--ckpt_path", str(run), *still)
    assert [path.name for path in (run / "checkpoints").glob("best-*.ckpt")] == ["best-step=2.ckpt"]
    callbacks = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"].items()
    (kept,) = (state for name, state in callbacks if name.startswith("Checkpoints"))
    best = str(run / "checkpoints" / "best-step=2.ckpt")
    assert kept["best_model_path"] == kept["kth_best_model_path"] == best and list(kept["best_k_models"]) == [best]


@pytest.mark.processes
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_writes_a_checkpoint_that_resumes(tmp_path, reference, name):
    """Also where it reaches the process that reads the data, as it does in jobs of SLURM."""
    number = signal.Signals[name]
    experiment = write_experiment(tmp_path, checkpoint__every_n_steps=10**6, data__init_args__workers=1)
    run = tmp_path / "runs" / "tiny" / "version_0"
    command = [sys.executable, "-m", "eclipse_pl", "fit", "--config", str(experiment), "--trainer.max_steps", "100000"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    # under nohup, which ignores SIGHUP, the tests would hand that on, and the run would rightly ignore it too
    options["preexec_fn"] = lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with started(command, **options) as process:
        wait_for(run / "metrics.csv", 600)  # the first steps are done, and others under way
        os.killpg(process.pid, number)
        output, _ = process.communicate(timeout=600)
    assert process.returncode == 128 + number
    assert "Traceback" not in output
    assert output.count("--ckpt_path") == 1
    assert not (run / "finished.json").exists()
    done = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    fit(experiment, "--trainer.max_steps", str(done + 3), "--ckpt_path", str(run))
    assert (run / "finished.json").exists()
    assert sorted(metrics(run)) == list(range(done + 3))
    expected = metrics(reference)
    for step in range(min(done + 2, STEPS)):  # the last step is validated, because it is the last
        assert metrics(run)[step] == pytest.approx(expected[step], rel=1e-6, abs=1e-6, nan_ok=True), step


@pytest.mark.processes
def test_a_job_of_slurm_is_queued_again_and_resumes_its_run(tmp_path, monkeypatch):
    """By the signal that `sbatch --signal` sends before a job's time is over, and by the same command."""
    experiment = write_experiment(tmp_path, checkpoint__every_n_steps=10**6)
    run = tmp_path / "runs" / "tiny" / "version_0"
    (tmp_path / "bin").mkdir()
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.write_text(f"#!/bin/sh\necho $@ >> {tmp_path}/said\n")
    scontrol.chmod(0o755)
    job = {
        "JOB_ID": "77",
        "JOB_NAME": "train",
        "NTASKS": "1",
        "PROCID": "0",
        "LOCALID": "0",
        "NODEID": "0",
        "NODELIST": "here",
    }
    for name, value in job.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")
    command = [sys.executable, "-m", "eclipse_pl", "fit", "--config", str(experiment)]
    with started(
        [*command, "--trainer.max_steps=100000"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        wait_for(run / "metrics.csv", 600)
        process.send_signal(signal.SIGUSR1)
        output, _ = process.communicate(timeout=600)
    assert (tmp_path / "said").read_text() == "requeue 77\n"
    assert "SLURM job 77 is queued again, and resumes this run." in output
    done = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    fit(experiment, f"--trainer.max_steps={done + 2}")
    assert sorted(metrics(run)) == list(range(done + 2))
    assert [path.name for path in run.parent.iterdir()] == ["version_0"]
    fit(experiment, "--trainer.max_steps=2")  # the next run of the same job
    assert sorted(metrics(run.parent / "version_1")) == [0, 1]


def test_a_job_of_slurm_whose_node_failed_resumes_its_run(tmp_path, monkeypatch):
    """Such a job gets no signal. A note that is not whole, or of another job, is none."""
    for name, folder in (("whole", "a"), ("of another job", "b"), ("without a checkpoint", "c"), ("not whole", "d")):
        run = tmp_path / folder
        (run / "checkpoints").mkdir(parents=True)
        monkeypatch.setenv("SLURM_JOB_ID", "78" if name == "of another job" else "77")
        note_job(run)
        if name != "without a checkpoint":
            (run / "checkpoints" / "last.ckpt").touch()
        if name == "not whole":
            (run / NOTE).write_text("")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    assert requeued_run(tmp_path) is None, "the next run of the same job"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert requeued_run(tmp_path) == requeued_run(tmp_path, "a") == tmp_path / "a"
    assert requeued_run(tmp_path, "b") is requeued_run(tmp_path, "c") is requeued_run(tmp_path, "d") is None
    forget_job(tmp_path / "a")
    assert requeued_run(tmp_path) is None
