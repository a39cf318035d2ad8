"""Two processes of four pairs are one process of eight: weights, validation and files."""

import json
import subprocess
import sys

import pytest
import torch

from eclipse_pl.cli import main
from tests.runs import metrics, write_experiment


@pytest.mark.parametrize("target", ["text", "symmetric"])
def test_two_processes_train_the_same_prior_as_one(tmp_path, target):
    prior = {"model__prior__init_args__noise": "zero", "model__prior__init_args__target": target}
    # Adam would turn rounding in gradients that are zero (those of key biases) into whole steps
    prior["model__optimizer"] = {"class_path": "torch.optim.SGD", "init_args": {"lr": 1.0e-3}}
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir(), two.mkdir()
    main(["fit", "--config", str(write_experiment(one, **prior))])
    experiment = write_experiment(two, data__init_args__batch_size=4, trainer__devices=2, trainer__strategy="ddp", **prior)
    done = subprocess.run(
        [sys.executable, "-m", "eclipse_pl", "fit", "--config", str(experiment)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    runs = [folder / "runs" / "tiny" / "version_0" for folder in (one, two)]
    assert [path.name for path in runs[1].parent.iterdir()] == ["version_0"], "one folder, whatever the number of ranks"
    ours, theirs = (metrics(run) for run in runs)
    assert ours.keys() == theirs.keys()
    for step, values in theirs.items():
        shared = {name: value for name, value in values.items() if name.startswith("val/") or name in ("lr", "samples_seen")}
        shared = {name: value for name, value in shared.items() if name not in ("val/contrastive", "val/total")}
        assert {name: ours[step][name] for name in shared} == pytest.approx(shared, abs=1e-5, nan_ok=True)
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in runs]
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=0, atol=1e-5)
    tables = [json.loads((run / "latent.json").read_text())["rows"] for run in runs]
    assert tables[1]["ridge"]["all"] == pytest.approx(tables[0]["ridge"]["all"], abs=1e-5)
