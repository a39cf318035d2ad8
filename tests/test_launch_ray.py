"""A sweep on Ray. It runs in processes of its own: Ray would leave threads and sockets in this one."""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import yaml

from eclipse_pl.launch.ray import require_resources
from eclipse_pl.launch.task import Record
from tests.helpers.runs import metrics, started, wait_for, write_experiment

pytestmark = pytest.mark.processes

WEIGHT = "model.prior.init_args.contrastive_weight"
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install -e .[ray]")


def test_resources_that_no_node_has_are_refused():
    def node(cpus, gpus, alive=True):
        return {"Alive": alive, "Resources": {"CPU": float(cpus), "GPU": float(gpus)}}

    require_resources([node(1, 0), node(8, 2)], 4.0, 1.0)
    for nodes in ([node(8, 0), node(2, 2)], [node(8, 2, alive=False), node(1, 0)]):
        with pytest.raises(ValueError, match=r"No node of the cluster has 4 CPUs and 1 GPUs for a run; they have "):
            require_resources(nodes, 4.0, 1.0)


def write_sweep(folder: Path, steps: int) -> Path:
    config = write_experiment(folder, trainer__max_steps=steps, trainer__val_check_interval=20, checkpoint__every_n_steps=20)
    content = {
        "method": "grid",
        "metric": {"name": "val/cosine"},
        "parameters": {WEIGHT: {"values": [0.0, 0.2, 0.4]}},
        "command": ["${interpreter}", "-m", "eclipse_pl", "fit", "--config", str(config), "${args}"],
    }
    (folder / "ray.yaml").write_text(yaml.safe_dump(content))
    return folder / "ray.yaml"


def sweep(path: Path, *more: str) -> AbstractContextManager[subprocess.Popen]:
    words = [sys.executable, "-m", "eclipse_pl", "sweep", str(path), "--engine", "ray", *more]
    return started(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def worker_of(run: Path) -> int:
    """The process that started the supervisor whose lock the run's folder has."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if b"eclipse_pl.launch.task" in words and f'"folder": "{run}"'.encode() in b"".join(words):
            return int(parent)
    raise AssertionError(f"nothing runs in {run}")


@needs_ray
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds the workers in /proc")
def test_a_killed_worker_costs_nothing_but_time(tmp_path):
    """Two workers; one is killed in the middle of a run, which another goes on with."""
    runs = [tmp_path / "runs" / "ray" / f"contrastive_weight={weight}" for weight in ("0", "0.2", "0.4")]
    with sweep(write_sweep(tmp_path, steps=100)) as process:
        wait_for(runs[0] / "checkpoints" / "last.ckpt")
        os.kill(worker_of(runs[0]), signal.SIGKILL)
        out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    records = [Record.read(run) for run in runs]
    assert [(record.finished, record.tries) for record in records] == [(True, 2), (True, 1), (True, 1)]
    assert f"--ckpt_path {runs[0]}\n" in (runs[0] / "log.txt").read_text()
    for run in runs:
        assert sorted(metrics(run)) == list(range(100)), "no step is missing, and none was made twice"
    assert re.search(rf"^ +0 +1 +{metrics(runs[0])[99]['val/cosine']:.4f} *$", out, re.MULTILINE)


@needs_ray
def test_a_cluster_by_its_address_and_ctrl_c(tmp_path, monkeypatch):
    """An interrupted sweep stops its runs on the cluster, which lives on; the same command ends them there."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # who joins the test's own cluster must know the test's own word
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    path = write_sweep(tmp_path, steps=150)
    code = "import ray; print(ray.init(num_cpus=2, include_dashboard=False).address_info['gcs_address'], flush=True); input()"
    with started([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as cluster:
        address = next(line.strip() for line in cluster.stdout if re.match(r"[\d.]+:\d+$", line))
        with sweep(path, "--ray-address", address) as process:
            wait_for(tmp_path / "runs" / "ray" / "contrastive_weight=0" / "checkpoints" / "last.ckpt")
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=120)
        assert process.returncode == 130, out
        assert "Traceback" not in out
        assert "stopped; the same command skips finished runs, resumes the others" in out
        records = [Record.read(folder) for folder in (tmp_path / "runs" / "ray").glob("contrastive*")]
        assert {record.exit_code for record in records} == {130}
        with sweep(path, "--ray-address", address) as process:
            out, _ = process.communicate(timeout=300)
        assert process.returncode == 0, out
        cluster.communicate("\n")
    assert all(Record.read(folder).finished for folder in (tmp_path / "runs" / "ray").glob("contrastive*"))


@needs_ray
@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:9"])
def test_a_cluster_that_is_not_there(tmp_path, address):
    with sweep(write_sweep(tmp_path, steps=2), "--ray-address", address) as process:
        out, _ = process.communicate(timeout=100)
    assert process.returncode == 2
    assert f"error: There is no Ray at {address}" in out
