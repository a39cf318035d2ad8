"""Two nodes by Lightning's own environment (NODE_RANK, no torchrun), on this machine: one run, also when it is resumed."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers.runs import metrics, started, write_experiment

pytestmark = pytest.mark.processes


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


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
