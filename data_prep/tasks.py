"""`embed` as many tasks: on this machine or on a Ray cluster, each with a share of the shards."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from eclipse_pl.device import visible_gpus
from eclipse_pl.embed.share import Share
from eclipse_pl.files import only_process, write_json
from eclipse_pl.launch.local import Status, run_local
from eclipse_pl.launch.progress import TaskProgress, report_failures
from eclipse_pl.launch.ray import run_on_ray
from eclipse_pl.launch.task import INTERPRETER, Task

FOLDER, FINISHED = "tasks", "finished.json"
RESTARTS = 10
"""How often a task is started again that was killed."""
Engine = Literal["local", "ray"]


def run_tasks(
    words: Sequence[str],
    out: Path,
    count: int,
    engine: Engine,
    jobs: int | None,
    ray_address: str | None,
    cpus: float | None,
    gpus: float | None,
) -> None:
    """Run ``python -m data_prep embed`` once for each of ``count`` shares, and wait for all of them.

    Args:
        words: The options of the command.
        out: Folder of the set. Its folder ``tasks`` gets the output of every task.
        count: Number of shares.
        engine: "local" for this machine, "ray" for a cluster whose nodes share ``out``.
        jobs: Local tasks at a time, which share the GPUs.
        ray_address: The cluster; None starts one on this machine.
        cpus: Processors of a task on Ray.
        gpus: GPUs of a task on Ray.

    Raises:
        ValueError: An option has no effect, or another command runs tasks in ``out``.
        SystemExit: A task failed.
    """
    others = {"--ray-address": ray_address, "--cpus": cpus, "--gpus": gpus} if engine == "local" else {"--jobs": jobs}
    if without_effect := next((name for name, value in others.items() if value is not None), None):
        raise ValueError(f"{without_effect} has no effect with --engine {engine}: leave it out.")
    if jobs is not None and jobs < 1:
        raise ValueError(f"--jobs is {jobs}; at least one task must be allowed to run.")
    with only_process(
        out, "tasks.lock", f"Another command embeds into {out} by tasks. Wait for it, or choose another folder."
    ):
        shutil.rmtree(out / FOLDER, ignore_errors=True)  # a finished task says nothing of shards that were lost since
        statuses = [Status.of(_task(words, out, Share(index, count))) for index in range(count)]
        print(f"{count} tasks; their output is in {out / FOLDER}")
        with TaskProgress(f"embedding into {out}", "task") as progress:
            if engine == "local":
                run_local(statuses, jobs or 1, progress, visible_gpus(), RESTARTS)
            else:
                run_on_ray(statuses, progress, ray_address, cpus or 1.0, gpus or 0.0, RESTARTS)
    report_failures(statuses, "task")


def finish_task(out: Path, share: Share) -> None:
    """Leave the file by which a launcher knows that a task is finished."""
    folder = out / FOLDER / str(share)
    if folder.is_dir():
        write_json(folder / FINISHED, {"share": str(share)})


def _task(words: Sequence[str], out: Path, share: Share) -> Task:
    folder = f"{out / FOLDER / str(share)}"
    command = [INTERPRETER, "-m", "data_prep", "embed", *words]
    return Task(
        name=str(share),
        command=[*command, "--task-index", str(share.index), "--task-count", str(share.count)],
        folder=folder,
        checkpoint=f"{folder}/{FINISHED}",
        resume=[],
        finished_by=f"{folder}/{FINISHED}",
    )
