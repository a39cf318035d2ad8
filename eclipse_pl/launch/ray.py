"""Run many independent commands on a Ray cluster, whose nodes share the file system that holds their folders."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from eclipse_pl.launch.local import Status, SupervisorProcess, Watch
from eclipse_pl.launch.task import Record, Task

RETRIES = 10
"""How often a task is started again whose worker or node died; a task that fails by itself is not."""


def run_on_ray(
    statuses: Sequence[Status],
    watch: Watch,
    address: str | None = None,
    cpus: float = 1.0,
    gpus: float = 0.0,
    restarts: int = 0,
) -> None:
    """Run the unfinished tasks, as many at once as the cluster has resources for. A failed task does not stop the others.

    A task whose worker dies is started again elsewhere, and resumes from its checkpoint.

    Args:
        statuses: The tasks.
        watch: Called with all of them, a few times a second.
        address: Of the cluster; without it, one is started on this machine for as long as this takes.
        cpus: Processors of each task.
        gpus: GPUs of each task, which are all that it sees.
        restarts: How often a task is started again whose command was killed (SIGKILL).
    """
    with connected(address) as ray:
        require_resources(ray.nodes(), cpus, gpus)
        remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(attend)
        attend_all(ray, statuses, watch, remote, restarts)


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Ray, connected to a cluster; without an address one is started on this machine.

    Raises:
        ValueError: Ray is not installed, or the cluster does not answer.
    """
    ray = import_ray()
    try:
        if match := re.fullmatch(r"(?:ray://)?([^/:]+):(\d+)", address or ""):  # Ray itself would try for ten minutes
            socket.create_connection((match[1], int(match[2])), timeout=10).close()
        ray.init(address or "local", log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"There is no Ray at {address or 'local'}: {error}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def attend_all(ray: Any, statuses: Sequence[Status], watch: Watch, remote: Any, restarts: int = 0) -> None:
    tries = {status.task.name: tries_of(status.task) for status in statuses}
    pending = {remote.remote(status.task): status for status in statuses if status.state == "waiting"}
    try:
        while pending:
            ended, _ = ray.wait(list(pending), timeout=0.5)
            for reference in ended:
                status = pending.pop(reference)
                status.end(*result(ray, reference))
                if status.start_again(restarts):
                    pending[remote.remote(status.task)] = status
            for status in pending.values():
                if status.state == "waiting" and tries_of(status.task) > tries[status.task.name]:
                    status.begin()
            watch(statuses)
    finally:
        for reference, status in pending.items():
            ray.cancel(reference)
            if status.state == "running":
                status.state = "stopping"
        watch(statuses)
        for reference, status in pending.items():
            if status.state == "stopping":
                status.end(*result(ray, reference))
        watch(statuses)


def attend(task: Task) -> tuple[int, str]:
    """Run on a worker: its end, however it comes, closes the supervisor's input, and so stops the task."""
    supervisor = SupervisorProcess(task)
    try:
        while not supervisor.ended:  # a cancellation comes between two calls, and would not end a longer one
            time.sleep(0.2)
    finally:
        supervisor.stop()
        end = supervisor.outcome()
    return end


def result(ray: Any, reference: Any) -> tuple[int, str]:
    try:
        exit_code, message = ray.get(reference)
        return exit_code, message
    except ray.exceptions.RayError as error:
        return 1, " ".join(str(error).split())[:300]


def tries_of(task: Task) -> int:
    record = Record.read(task.path)
    return record.tries if record else 0


def require_resources(nodes: list[dict[str, Any]], cpus: float, gpus: float) -> None:
    """Raise ValueError where no node could ever run a task, which Ray would wait for."""
    have = [(node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0)) for node in nodes if node["Alive"]]
    if not any(cpus <= cpu and gpus <= gpu for cpu, gpu in have):
        nodes_have = "; ".join(f"{cpu:g} CPUs and {gpu:g} GPUs" for cpu, gpu in have)
        raise ValueError(f"No node of the cluster has {cpus:g} CPUs and {gpus:g} GPUs for a run; they have {nodes_have}.")


def import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ValueError("--engine ray needs Ray: pip install 'eclipse_pl[ray]'.") from error
    return ray
