"""Two nodes on this machine, by the environment of torchrun and by Lightning's own (NODE_RANK): one run, also when resumed."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from eclipse_pl.cli import main
from tests.helpers.ranks import free_port, on_ranks, torchrun
from tests.helpers.runs import metrics, started, write_experiment
from tests.test_resume import callback

pytestmark = pytest.mark.processes


@pytest.mark.long
def test_two_nodes_of_two_processes_are_one_run(tmp_path: Path) -> None:
    """By torchrun's environment: four ranks, of which one writes, with random numbers of their own."""
    experiment = write_experiment(
        tmp_path,
        trainer__num_nodes=2,
        trainer__devices=2,
        trainer__strategy="ddp",
        trainer__callbacks=[callback("Seeds", folder=str(tmp_path))],
        data__init_args__batch_size=2,
        trainer__max_steps=3,
    )
    on_ranks(tmp_path / "ranks", torchrun(4, nodes=2), main_of, ["fit", "--config", str(experiment)])
    said = [(tmp_path / "ranks" / f"rank{rank}.log").read_text() for rank in range(4)]
    assert ["this prior" in words for words in said] == [True, False, False, False]
    assert [path.name for path in (tmp_path / "runs" / "tiny").iterdir()] == ["version_0"]
    run = tmp_path / "runs" / "tiny" / "version_0"
    assert sorted(metrics(run)) == list(range(3))
    assert metrics(run)[2]["samples_seen"] == 24
    seeds = [(tmp_path / f"{rank}.txt").read_text().split() for rank in range(4)]
    assert len({seed for of_rank in seeds for seed in of_rank}) == 4 * 3


def main_of(words: list[str]) -> None:
    main(words)


def on_two_nodes(experiment: Path, *more: str) -> list[str]:
    """What each node printed; it must have ended well."""
    words = [sys.executable, "-m", "eclipse_pl", "fit", "--config", str(experiment), *more]
    place = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    with contextlib.ExitStack() as stack:
        nodes = [
            stack.enter_context(
                started(words, env={**place, "NODE_RANK": rank}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            )
            for rank in ("0", "1")
        ]
        said = [node.communicate(timeout=300)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], "\n".join(said)
    return said


@pytest.mark.slow
def test_two_nodes_are_one_run_also_when_it_is_resumed(tmp_path: Path) -> None:
    experiment = write_experiment(
        tmp_path, trainer__num_nodes=2, trainer__strategy="ddp", data__init_args__batch_size=4, trainer__max_steps=4
    )
    first, second = on_two_nodes(experiment)
    runs, run = tmp_path / "runs" / "tiny", tmp_path / "runs" / "tiny" / "version_0"
    assert "this prior" in first and "this prior" not in second, "one node has the words"
    first, _ = on_two_nodes(experiment, "--trainer.max_steps=6", "--ckpt_path", str(run))
    assert f"Resuming the run in {run}" in first
    assert [path.name for path in runs.iterdir()] == ["version_0"]
    assert sorted(metrics(run)) == list(range(6))
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 6
