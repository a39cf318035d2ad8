"""Small runs through the front door, for the tests of everything that happens in a run."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml

from eclipse_pl.run import read_metrics
from tests.helpers.shard_sets import make_shard_set

T = TypeVar("T")
TIMES = ("samples_per_second", "train_seconds", "waiting_for_data")


def write_experiment(folder: Path, **changes: Any) -> Path:
    """An experiment on a tiny set of shards; ``changes`` are dotted keys with ``__`` for the dot."""
    if not (folder / "shards").exists():
        make_shard_set(folder / "shards", splits={"train": 64, "val": 16, "test": 16})
    experiment: dict[str, Any] = {
        "seed_everything": 0,
        "run": {"experiment": "tiny", "folder": str(folder / "runs"), "wandb": "disabled"},
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            "max_steps": 10,
            "val_check_interval": 3,
            "check_val_every_n_epoch": None,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
        "data": {
            "class_path": "eclipse_pl.data.datamodule.EmbeddingDataModule",
            "init_args": {"folder": str(folder / "shards"), "batch_size": 8, "workers": 0, "window": 2},
        },
        "model": {
            "prior": {
                "class_path": "eclipse_pl.priors.eclipse.EclipsePrior",
                "init_args": {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8},
            },
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1.0e-3}},
        },
        "checkpoint": {"every_n_steps": 1},
    }
    for key, value in changes.items():
        node = experiment
        *parents, last = key.split("__")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(experiment))
    return path


def metrics(run: Path) -> dict[int, dict[str, float]]:
    """{step: all metrics of a run but the times}."""
    steps: dict[int, dict[str, float]] = {}
    for row in read_metrics(run / "metrics.csv"):
        values = {name: float(value) for name, value in row.items() if value and name not in (*TIMES, "step")}
        steps.setdefault(int(row["step"]), {}).update(values)
    return steps


@contextmanager
def started(words: list[str], **options: Any) -> Iterator[subprocess.Popen]:
    """A process that does not outlive the block, whatever fails there."""
    with subprocess.Popen(words, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(condition: Callable[[], T], what: str = "what was waited for", seconds: float = 120) -> T:
    """The first value of ``condition`` that is true."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.05)
    return value


def wait_for(path: Path, seconds: float = 120) -> None:
    wait_until(path.exists, str(path), seconds)


def process_of(task: Path) -> int:
    """The number of a task's process, which its supervisor writes once it has started it."""
    return int(wait_until((task / ".task.lock").read_text, f"the process of {task}"))
