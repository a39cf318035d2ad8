"""2 processes of 4 pairs, and 4 of 2, are one process of 8: metrics, weights and files. They stop and fail together."""

import json
import signal
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from eclipse_pl.cli import main
from tests.helpers.ranks import run_command, torchrun
from tests.helpers.runs import metrics, started, wait_for, write_experiment
from tests.test_resume import assert_same_run, callback

pytestmark = pytest.mark.processes

NUMBERS = [2, pytest.param(4, marks=pytest.mark.slow)]


def on(processes: int) -> dict[str, Any]:
    return {"data__init_args__batch_size": 8 // processes, "trainer__devices": processes, "trainer__strategy": "ddp"}


def words(experiment: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "eclipse_pl", "fit", "--config", str(experiment), *more]


@pytest.mark.parametrize(
    ("target", "processes"),
    [("symmetric", 2), *(pytest.param(*case, marks=pytest.mark.slow) for case in (("symmetric", 4), ("text", 2)))],
)
def test_several_processes_train_the_same_prior_as_one(tmp_path, target, processes):
    prior = {"model__prior__init_args__noise": "zero", "model__prior__init_args__target": target}
    # Adam would turn rounding in gradients that are zero (those of key biases) into whole steps
    prior["model__optimizer"] = {"class_path": "torch.optim.SGD", "init_args": {"lr": 1.0e-3}}
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir(), two.mkdir()
    main(["fit", "--config", str(write_experiment(one, **prior))])
    experiment = write_experiment(two, **on(processes), **prior)
    done = run_command(tmp_path / "said", ["fit", "--config", str(experiment)], torchrun(processes))
    assert done.returncode == 0, done.stdout
    runs = [folder / "runs" / "tiny" / "version_0" for folder in (one, two)]
    assert [path.name for path in runs[1].parent.iterdir()] == ["version_0"], "one folder, whatever the number of ranks"
    ours, theirs = (metrics(run) for run in runs)
    assert ours.keys() == theirs.keys()
    for step, values in theirs.items():
        # validation contrasts a pair with those of its own batch
        shared = {name: value for name, value in values.items() if name not in ("val/contrastive", "val/total")}
        assert {name: ours[step][name] for name in shared} == pytest.approx(shared, rel=2e-5, abs=1e-5, nan_ok=True)
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in runs]
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=0, atol=1e-5)
    tables = [json.loads((run / "latent.json").read_text())["rows"] for run in runs]
    assert tables[1]["ridge"]["all"] == pytest.approx(tables[0]["ridge"]["all"], abs=1e-5)


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (callback("FailOnRank", rank=1, batch=5), "rank 1 misses a shard"),
        pytest.param(callback("FailOnRank", rank=0, batch=5), "rank 0 misses a shard", marks=pytest.mark.slow),
        (callback("NotANumber", rank=1, batch=5), "NaN or infinity in image_embed of the batch at step 5"),
        (callback("tests.helpers.laggards.Killed", rank=1, batch=5), "error: rank 1 (process "),
    ],
    ids=["second", "first", "not finite", "killed"],
)
@pytest.mark.parametrize("processes", NUMBERS)
def test_a_rank_that_fails_ends_all_with_its_sentence(tmp_path, processes, failure, said):
    """And with the last good step, whoever failed; the other ranks would wait for it for half an hour."""
    experiment = write_experiment(tmp_path, **on(processes), checkpoint__every_n_steps=10**6, trainer__callbacks=[failure])
    run = tmp_path / "runs" / "tiny" / "version_0"
    done = subprocess.run(words(experiment), capture_output=True, text=True, timeout=600)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count(said) == 1
    assert "Traceback" not in done.stderr and "frame #" not in done.stderr
    left = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert left["global_step"] == 5
    assert not any(tensor.isnan().any() for tensor in left["state_dict"].values())
    assert not (run / "finished.json").exists()


@pytest.mark.parametrize("processes", NUMBERS)
def test_a_signal_to_one_rank_stops_all_after_the_same_step(tmp_path, processes):
    """As a scheduler sends it; and their random numbers are those of their ranks."""
    experiment = write_experiment(tmp_path, **on(processes), checkpoint__every_n_steps=10**6)
    run = tmp_path / "runs" / "tiny" / "version_0"
    more = ["--trainer.max_steps=100000", f"--trainer.callbacks={json.dumps([callback('Seeds', folder=str(tmp_path))])}"]
    with started(words(experiment, *more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        wait_for(run / "metrics.csv", 600)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=600)
    assert process.returncode == 128 + signal.SIGTERM
    assert output.count("Stopped by SIGTERM after step") == 1
    assert "Traceback" not in output
    left = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    seeds = [(tmp_path / f"{rank}.txt").read_text().split() for rank in range(processes)]
    assert [len(of_rank) for of_rank in seeds] == [left["global_step"]] * processes
    assert len(set(chain(*seeds))) == processes * left["global_step"]


@pytest.mark.slow
def test_two_processes_are_resumed(tmp_path):
    """In the middle of an epoch and of the batches of a step."""
    changes = {
        **on(2),
        "data__init_args__batch_size": 2,
        "trainer__accumulate_grad_batches": 3,
        "checkpoint__every_n_steps": 1,
    }
    runs = []
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
        experiment = write_experiment(tmp_path / name, **changes)
        runs.append(tmp_path / name / "runs" / "tiny" / "version_0")
        if name == "whole":
            subprocess.run(words(experiment), check=True, capture_output=True)
            continue
        failure = callback("FailOnRank", rank=1, batch=7)
        with pytest.raises(subprocess.CalledProcessError):
            command = words(experiment, "--trainer.callbacks", json.dumps([failure]))
            subprocess.run(command, check=True, capture_output=True)
        subprocess.run(words(experiment, "--ckpt_path", str(runs[-1])), check=True, capture_output=True)
    assert_same_run(runs[1], runs[0])
