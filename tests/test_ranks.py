"""Runs through the front door on 2 and 4 processes, which are started once for several runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from eclipse_pl.cli import main
from tests.helpers.laggards import noted
from tests.helpers.ranks import SECONDS, on_ranks, srun, started_ranks, torchrun
from tests.helpers.runs import metrics, wait_for, write_experiment
from tests.helpers.shard_sets import make_shard_set
from tests.test_resume import assert_same_run, callback, fit

pytestmark = [pytest.mark.processes, pytest.mark.long]

STATIC = {
    "class_path": "lightning.pytorch.strategies.DDPStrategy",
    "init_args": {"static_graph": True, "gradient_as_bucket_view": True},
}
SAME = {"model__prior__init_args__noise": "zero", "model__prior__init_args__target": "symmetric"}
"""Runs whose random numbers do not depend on the rank, and without Adam, which makes steps of gradients that are rounding."""
SAME |= {"model__optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 1.0e-2}}}
VALIDATED = 13


def _mains(commands: list[list[str]]) -> None:
    for command in commands:
        main(command)


def _made(folder: Path, processes: int, **changes: Any) -> tuple[Path, Path]:
    """An experiment on so many processes, 8 pairs in a global batch, and the folder of its run."""
    folder.mkdir(exist_ok=True)
    (folder / "noted").mkdir(exist_ok=True)
    if not (folder / "shards").exists():
        make_shard_set(folder / "shards", splits={"train": 64, "val": VALIDATED})
    changes = {"data__init_args__batch_size": 8 // processes, "trainer__devices": processes, **SAME, **changes}
    changes.setdefault("trainer__strategy", "auto" if processes == 1 else "ddp")
    changes.setdefault("trainer__callbacks", [_callback("Batches", folder=str(folder / "noted"))])
    return write_experiment(folder, **changes), folder / "runs" / "tiny" / "version_0"


def _callback(name: str, **arguments: Any) -> dict[str, Any]:
    return callback(f"tests.helpers.laggards.{name}", **arguments)


def _on(folder: Path, processes: int, *commands: list[str]) -> None:
    on_ranks(folder / f"ranks{processes}", torchrun(processes), _mains, list(commands))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted run, on one process."""
    experiment, run = _made(tmp_path_factory.mktemp("whole"), 1)
    fit(experiment)
    return run


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs on two processes: one that stops inside an epoch, and one with options of DDP that is resumed."""
    folder = tmp_path_factory.mktemp("two")
    stopped, _ = _made(folder / "stopped", 2, checkpoint__every_n_steps=10**6)
    static, run = _made(folder / "static", 2, trainer__strategy=STATIC, model__log_gradient_norms_every=1)
    words = ["--trainer.max_steps=5"]
    plain, _ = _made(folder / "plain", 2, model__log_gradient_norms_every=1)
    _on(
        folder,
        2,
        ["fit", "--config", str(stopped), *words],
        ["fit", "--config", str(static), *words],
        ["fit", "--config", str(static), "--ckpt_path", str(run)],
        ["fit", "--config", str(plain)],
    )
    return folder


def assert_same_curve(run: Path, whole: Path) -> None:
    """Metrics of every step, and the weights."""
    ours, theirs = metrics(run), metrics(whole)
    assert ours.keys() == theirs.keys()
    for step, values in theirs.items():
        # validation contrasts a pair with those of its own batch, whose size differs
        shared = {name: value for name, value in values.items() if name not in ("val/contrastive", "val/total")}
        assert {name: ours[step].get(name) for name in shared} == pytest.approx(shared, rel=2e-5, abs=1e-5, nan_ok=True), step
    states = [torch.load(path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for path in (run, whole)]
    for name, tensor in states[1].items():
        torch.testing.assert_close(states[0][name], tensor, rtol=0, atol=2e-5)


def noted_pairs(folder: Path, kind: str) -> list[int]:
    return [pair for batch in noted(folder, kind) for pair in batch]


@pytest.mark.parametrize("processes", [1, 4])
def test_a_run_of_two_processes_is_resumed_on_another_number(tmp_path: Path, two: Path, whole: Path, processes: int) -> None:
    """At the same global batch: its pairs, its metrics, its weights; and a validation counts each pair once."""
    folder = tmp_path / "resumed"
    shutil.copytree(two / "stopped", folder)
    before = noted(folder / "noted", "train")
    assert len(before) == 5
    shutil.rmtree(folder / "noted")
    experiment, run = _made(folder, processes)
    command = ["fit", "--config", str(experiment), "--ckpt_path", str(run)]
    main(command) if processes == 1 else _on(tmp_path, processes, command)
    assert_same_curve(run, whole)
    assert before + noted(folder / "noted", "train") == noted(whole.parents[2] / "noted", "train")
    assert Counter(noted_pairs(folder / "noted", "val")) == {64 + pair: 3 for pair in range(VALIDATED)}


def test_options_of_ddp_train_checkpoint_resume_and_log_the_same(two: Path, whole: Path) -> None:
    static, plain = (two / name / "runs" / "tiny" / "version_0" for name in ("static", "plain"))
    assert "gradient_norm/contrastive" in metrics(static)[0]
    assert_same_run(static, plain)
    assert_same_curve(plain, whole)
    assert noted(two / "plain" / "noted", "train") == noted(whole.parents[2] / "noted", "train")
    assert Counter(noted_pairs(two / "plain" / "noted", "val")) == {64 + pair: 4 for pair in range(VALIDATED)}


@pytest.mark.parametrize(("processes", "rank"), [(2, 1), (4, 2), (4, 0), pytest.param(2, 0, marks=pytest.mark.slow)])
def test_a_rank_that_is_killed_is_named(tmp_path: Path, processes: int, rank: int) -> None:
    """And the others end within seconds, where they would wait."""
    experiment, run = _made(tmp_path / "run", processes, checkpoint__every_n_steps=1)
    killed = json.dumps([_callback("Killed", rank=rank, batch=5)])
    command = ["fit", "--config", str(experiment), "--trainer.callbacks", killed]
    with started_ranks(tmp_path / "ranks", torchrun(processes), _mains, [command]) as ranks:
        ranks.processes[rank].join(SECONDS)
        start = time.monotonic()
        codes = ranks.join(120)
        assert time.monotonic() - start < 60
    assert codes == [-signal.SIGKILL if number == rank else 1 for number in range(processes)]
    (line,) = [line for line in ranks.said().splitlines() if line.startswith("error: ")]
    process = r" \(process \d+ on .*\)" if rank else ""
    assert re.match(rf"error: rank {rank}{process} was killed or has died\. All processes end", line)
    assert "Traceback" not in ranks.said()
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 5


@pytest.mark.parametrize(("processes", "rank"), [(2, 1), (4, 0), pytest.param(4, 3, marks=pytest.mark.slow)])
def test_a_rank_that_is_late_is_named_and_ends_the_run(tmp_path: Path, processes: int, rank: int) -> None:
    """After the parts of the strategy's timeout that docs/scale.md states."""
    strategy = {"class_path": "lightning.pytorch.strategies.DDPStrategy", "init_args": {"timeout": "0:00:20"}}
    experiment, run = _made(tmp_path / "run", processes, trainer__strategy=strategy, checkpoint__every_n_steps=1)
    sleeps = json.dumps([_callback("Sleeps", rank=rank, batch=5, seconds=600.0)])
    command = ["fit", "--config", str(experiment), "--trainer.callbacks", sleeps]
    with started_ranks(tmp_path / "ranks", torchrun(processes), _mains, [command]) as ranks:
        wait_for(run / "metrics.csv", SECONDS)
        codes = ranks.join(60)
    assert codes == [1] * processes
    late = rf"rank {rank} \(process \d+ on .*\) keeps the others waiting: it is at training batch 5 of epoch 0, "
    late += r"on_train_batch_start in laggards.py:\d+\. "
    assert re.search(rf"^{late}After 18 s that ends the run\.$", ranks.said(), re.MULTILINE)
    (line,) = [line for line in ranks.said().splitlines() if line.startswith("error: ")]
    assert re.match(rf"error: {late}That has taken 18 s, and the timeout of the strategy is 20 s\.", line)
    assert "Traceback" not in ranks.said()
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 5


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_a_job_of_slurm_with_several_tasks_is_queued_again_and_resumes(tmp_path: Path, processes: int) -> None:
    """The signal reaches all tasks, at slightly different times. The seeds of all ranks, steps and runs differ."""
    seeds = callback("Seeds", folder=str(tmp_path))
    experiment, run = _made(tmp_path / "run", processes, checkpoint__every_n_steps=10**6, trainer__callbacks=[seeds])
    (tmp_path / "bin").mkdir()
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.write_text(f"#!/bin/sh\necho $@ >> {tmp_path}/said\n")
    scontrol.chmod(0o755)
    path = {"PATH": f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}"}
    command = ["fit", "--config", str(experiment)]
    places = [place | path for place in srun(processes)]
    with started_ranks(tmp_path / "first", places, _mains, [[*command, "--trainer.max_steps=100000"]]) as ranks:
        wait_for(run / "metrics.csv", SECONDS)
        for process in ranks.processes:
            os.kill(process.pid, signal.SIGUSR1)
        assert ranks.join() == [128 + signal.SIGUSR1] * processes
    assert (tmp_path / "said").read_text() == "requeue 77\n"
    assert ranks.said().count("SLURM job 77 is queued again, and resumes this run.") == 1
    done = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    places = [place | path | {"SLURM_RESTART_COUNT": "1"} for place in srun(processes)]
    on_ranks(tmp_path / "second", places, _mains, [[*command, f"--trainer.max_steps={done + 2}"]])
    assert sorted(metrics(run)) == list(range(done + 2))
    assert [folder.name for folder in run.parent.iterdir()] == ["version_0"]
    drawn = [(tmp_path / f"{rank}.txt").read_text().split() for rank in range(processes)]
    assert [len(of_rank) for of_rank in drawn] == [done + 2] * processes
    assert len(set(chain(*drawn))) == processes * (done + 2)


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_fewer_pairs_than_processes_are_refused_before_any_is_started(tmp_path: Path, command: str) -> None:
    make_shard_set(tmp_path / "shards", splits={"train": 64, "val": 3, "test": 3})
    experiment, _ = _made(tmp_path, 4)
    with pytest.raises(ValueError, match="3 pairs cannot be evaluated on 4 processes: each needs one"):
        main([command, "--config", str(experiment)])
