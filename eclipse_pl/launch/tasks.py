"""A command as many tasks, each with a share of its work: on this machine or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from eclipse_pl.device import visible_gpus
from eclipse_pl.files import only_process, write_json
from eclipse_pl.launch.effect import require_effect
from eclipse_pl.launch.local import Status, run_local
from eclipse_pl.launch.progress import TaskProgress, report_failures
from eclipse_pl.launch.ray import run_on_ray
from eclipse_pl.launch.share import Share
from eclipse_pl.launch.task import INTERPRETER, LOCK, RECORD, Task, acquire, clear

FOLDER, FINISHED = "tasks", "finished.json"
RESTARTS = 10
"""How often a task is started again that was killed."""
ENGINE = ("engine", "tasks", "jobs", "ray_address", "cpus", "gpus")
OPTIONS = (*ENGINE, "task_index", "task_count")
"""Options that say where the work is done, and do not change its result."""


@dataclass(frozen=True)
class TaskEngine:
    """Where the tasks run, as the options of a command say.

    Raises:
        ValueError: An option has no effect, or is out of its range.
    """

    engine: Literal["local", "ray"] | None = None
    """"local" for this machine, "ray" for a cluster whose nodes share the folders. None does not make tasks."""
    tasks: int | None = None
    """Number of tasks."""
    jobs: int | None = None
    """Local tasks at a time, which share the GPUs."""
    ray_address: str | None = None
    """The cluster; None starts one on this machine."""
    cpus: float | None = None
    """Processors of a task on Ray."""
    gpus: float | None = None
    """GPUs of a task on Ray."""

    def __post_init__(self) -> None:
        options = {name: value for name, value in vars(self).items() if name != "engine"}
        require_effect(self.engine, **options)

    def run(self, command: Sequence[str], folder: Path, count: int) -> None:
        """Run ``python -m COMMAND`` once for each of ``count`` shares, and wait for all of them.

        Args:
            command: The module and its words.
            folder: Folder of the result. Its folder ``tasks`` gets the output of every task.
            count: Number of shares.

        Raises:
            ValueError: Another command runs tasks in ``folder``, or a task of an earlier one does not end.
            SystemExit: A task failed.
        """
        busy = f"Another command runs tasks in {folder}. Wait for it, or choose another folder."
        with only_process(folder, "tasks.lock", busy):
            _forget(folder / FOLDER)
            statuses = [Status.of(_task(command, folder, Share(index, count))) for index in range(count)]
            print(f"{count} tasks; their output is in {folder / FOLDER}")
            with TaskProgress(f"{command[1]}: {folder}", "task") as progress:
                if self.engine == "local":
                    run_local(statuses, self.jobs or 1, progress, visible_gpus(), RESTARTS)
                else:
                    run_on_ray(statuses, progress, self.ray_address, self.cpus or 1.0, self.gpus or 0.0, RESTARTS)
        report_failures(statuses, "task")


def finish_task(folder: Path, share: Share) -> None:
    """Leave the file by which a launcher knows that a task is finished."""
    place = folder / FOLDER / str(share)
    if place.is_dir():
        write_json(place / FINISHED, {"share": str(share)})


def without_options(args: Sequence[str], names: Collection[str] = OPTIONS) -> list[str]:
    """A command line without the options of these names (``task_count``) and their values."""
    kept: list[str] = []
    drop = False
    for word in args:
        if word.startswith("--"):
            drop = word[2:].partition("=")[0].replace("-", "_") in names
        if not drop:
            kept.append(word)
    return kept


def _forget(folder: Path) -> None:
    """Remove what tasks in ``folder`` have finished by: it says nothing of work that was lost since.

    A task that still runs, of a launcher that was killed, is waited for. Its lock stays: two tasks with locks of their own
    would do one share.
    """
    for place in filter(Path.is_dir, folder.glob("*")):
        with open(place / LOCK, "a") as lock:
            acquire(lock.fileno(), str(place))
            clear(place)
            (place / RECORD).unlink(missing_ok=True)


def _task(command: Sequence[str], out: Path, share: Share) -> Task:
    folder = f"{out / FOLDER / str(share)}"
    alone = [f"--{name}=null" for name in ENGINE]  # a --config of the command may state them
    return Task(
        name=str(share),
        command=[INTERPRETER, "-m", *command, *alone, f"--task_index={share.index}", f"--task_count={share.count}"],
        folder=folder,
        checkpoint=f"{folder}/{FINISHED}",
        resume=[],
        finished_by=f"{folder}/{FINISHED}",
    )
