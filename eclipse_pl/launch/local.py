"""Run many independent commands at once on this machine; ray.py does the same on a Ray cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from eclipse_pl.launch.task import Record, Task

State = Literal["waiting", "running", "stopping", "stopped", "finished", "failed"]


@dataclass
class Status:
    """The progress of a task, for display."""

    task: Task
    state: State = "waiting"
    message: str = ""
    started: float = 0.0
    was_killed: bool = False
    """Whether the last try was ended by SIGKILL: that of its command, or that of its supervisor."""
    restarts: int = 0

    @classmethod
    def of(cls, task: Task) -> Status:
        return cls(task, "finished" if task.is_finished else "waiting")

    def begin(self) -> None:
        self.state, self.started = "running", time.monotonic()

    def end(self, exit_code: int, message: str = "") -> None:
        """``exit_code`` is that of the supervisor: 0 where the task is finished."""
        record = Record.read(self.task.path)
        if exit_code and not message and record is not None and record.exit_code == 0:
            message = f"exit code 0, but it did not write {self.task.finished_by}"
        self.message = message or f"exit code {exit_code}"
        self.was_killed = exit_code in (-signal.SIGKILL, 128 + signal.SIGKILL)
        self.state = "finished" if exit_code == 0 else "stopped" if self.state == "stopping" else "failed"

    def start_again(self, most: int) -> bool:
        """Put a task that was killed back among the waiting ones, at most ``most`` times."""
        if self.state != "failed" or not self.was_killed or self.restarts >= most:
            return False
        self.restarts, self.state = self.restarts + 1, "waiting"
        return True

    @property
    def seconds(self) -> float:
        """Of this try while it runs, and of all tries before and after."""
        if self.state in ("running", "stopping"):
            return time.monotonic() - self.started
        record = Record.read(self.task.path)
        return record.seconds if record else 0.0

    @property
    def error_code(self) -> int:
        """The exit code of a finished command that ended with an error, such as images without a score; else 0.

        A command that was killed after it had written its last file has done its work.
        """
        record = Record.read(self.task.path) if self.state == "finished" else None
        code = (record.exit_code or 0) if record else 0
        return code if code < 128 else 0

    @property
    def last_words(self) -> str:
        """The last line that the command printed."""
        path = Path(self.task.cwd) / self.task.log
        lines = path.read_text(errors="replace").split("\n") if path.is_file() else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


Watch = Callable[[Sequence[Status]], None]
"""Called with all tasks at every change, and a few times a second."""


class Supervisor(ABC):
    """The process that runs a task, seen from the process that asked for it."""

    @property
    @abstractmethod
    def ended(self) -> bool: ...

    @abstractmethod
    def stop(self) -> None:
        """Stop its task, with time to write a checkpoint. This returns at once."""

    @abstractmethod
    def outcome(self) -> tuple[int, str]:
        """Wait for its end: the exit code, and a message where the supervisor itself has one."""


class SupervisorProcess(Supervisor):
    """A supervisor in a new Python. Without ``gpus`` the task sees those that this process sees."""

    def __init__(self, task: Task, gpus: Sequence[str] = ()) -> None:
        # a session of its own keeps the terminal's Ctrl-C away: closing its input stops it, and its task
        self.process = subprocess.Popen(
            [sys.executable, "-m", "eclipse_pl.launch.task", json.dumps(asdict(task))],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            cwd=task.cwd, start_new_session=True,
            env={**os.environ, **({"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {})},
        )  # fmt: skip

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def outcome(self) -> tuple[int, str]:
        self.process.wait()
        with self.process:
            assert self.process.stderr is not None
            return self.process.returncode, self.process.stderr.read().strip()


Start = Callable[[Task, Sequence[str]], Supervisor]
"""Starts a task, which sees the GPUs of these names, or those of this process where there are none."""


def run_local(
    statuses: Sequence[Status],
    jobs: int,
    watch: Watch,
    gpus: Sequence[str] = (),
    restarts: int = 0,
    start: Start = SupervisorProcess,
) -> None:
    """Run the unfinished tasks, ``jobs`` at once, each with its share of the GPUs. A failed task does not stop the others.

    A task that is killed (SIGKILL) is started again, at most ``restarts`` times.

    An interruption stops all of them (SIGINT, and time to write a checkpoint) before it reaches the caller.
    """
    waiting = deque(status for status in statuses if status.state == "waiting")
    running: dict[Supervisor, Status] = {}
    shares = gpu_shares(gpus, jobs)
    free, taken = list(range(jobs)), {}
    try:
        while waiting or running:
            while waiting and free:
                status, slot = waiting.popleft(), free.pop(0)
                supervisor = start(status.task, shares[slot])
                running[supervisor], taken[supervisor] = status, slot
                status.begin()
            watch(statuses)
            time.sleep(0.2)
            for supervisor in [one for one in running if one.ended]:
                status = running.pop(supervisor)
                status.end(*supervisor.outcome())
                free.append(taken.pop(supervisor))
                if status.start_again(restarts):
                    waiting.append(status)
    finally:
        for supervisor, status in running.items():
            status.state = "stopping"
            supervisor.stop()
        watch(statuses)
        for supervisor, status in running.items():
            status.end(*supervisor.outcome())
        watch(statuses)


def gpu_shares(gpus: Sequence[str], count: int) -> list[list[str]]:
    """The GPUs of each of ``count`` processes at once: equal shares, none twice while there are enough."""
    if not gpus:
        return [[] for _ in range(count)]
    size = max(len(gpus) // count, 1)
    return [[gpus[(process * size + number) % len(gpus)] for number in range(size)] for process in range(count)]
