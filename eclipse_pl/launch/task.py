"""One command in a folder of its own, and ``python -m eclipse_pl.launch.task TASK``: the supervisor that runs it.

The supervisor is a small process. It starts the command, keeps its output and writes the outcome to ``task.json``. It stops
the command when the process that asked for it is gone, for whatever reason, or when it gets a signal that ends a process. So
a command never runs unattended, and a finished command is recorded as finished.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

from eclipse_pl.files import write_json

LOG, RECORD, LOCK = "log.txt", "task.json", ".task.lock"
OWN = (LOG, RECORD, LOCK)
INTERPRETER = "${interpreter}"
ENDING = (signal.SIGTERM, signal.SIGHUP)
"""Signals that end a process, beside Ctrl-C."""
GRACE = 60.0
"""Seconds that a command has to write a checkpoint after a signal, before it is killed."""
PATIENCE = GRACE + 30
"""Seconds that a try waits for the end of the one before, whose caller is gone."""


@dataclass(frozen=True)
class Task:
    """A command that leaves all it makes in a folder of its own.

    Args:
        name: For the reader.
        command: Its words, by which a finished task is known again; ``${interpreter}`` is the Python that runs this.
        folder: Where the task writes, and where its output (``log.txt``) is kept.
        checkpoint: The file that a stopped command resumes from. Where this file is missing, what an earlier try
            left is removed before the next.
        resume: Words that tell the command to resume from that file.
        finished_by: The file that the command writes last. The task is finished when it is there, whatever the exit code.
        environment: Variables to set.
        cwd: Where it runs; all paths are relative to it.
    """

    name: str
    command: list[str]
    folder: str
    checkpoint: str
    resume: list[str]
    finished_by: str
    environment: dict[str, str] = field(default_factory=dict)
    cwd: str = field(default_factory=os.getcwd)
    commit: str = "unknown"
    """Of the code that runs it, kept in its record."""

    @property
    def path(self) -> Path:
        return Path(self.cwd) / self.folder

    @property
    def log(self) -> Path:
        return Path(self.folder) / LOG

    def words(self) -> list[str]:
        """The command that would run now."""
        words = [sys.executable if word == INTERPRETER else word for word in self.command]
        return [*words, *(self.resume if self.goes_on else [])]

    @property
    def goes_on(self) -> bool:
        return (Path(self.cwd) / self.checkpoint).is_file()

    @property
    def is_finished(self) -> bool:
        return Record.read(self.path) is not None and (Path(self.cwd) / self.finished_by).is_file()

    def require_own_folder(self) -> None:
        """Raise ValueError where the folder holds anything but the work of this command."""
        record = Record.read(self.path)
        remedy = "Choose another name, or move the folder away."
        if record is None:
            if self.path.is_file() or (self.path.is_dir() and any(path.name not in OWN for path in self.path.iterdir())):
                raise ValueError(f"{self.folder} holds something that was not made by this command. {remedy}")
        elif record.command != self.command:
            was = [word for word in record.command if word not in self.command]
            now = [word for word in self.command if word not in record.command]
            raise ValueError(
                f"{self.folder} was made by another command: {shlex.join(was) or 'nothing'} there is "
                f"{shlex.join(now) or 'nothing'} now. Results of both would be mixed. {remedy}"
            )


@dataclass
class Record:
    """``task.json``: the command and its result. ``exit_code`` is None from its start to its end."""

    command: list[str]
    tries: int = 0
    seconds: float = 0.0
    exit_code: int | None = None
    finished: bool = False
    """Whether the command had written its last file when it ended."""
    commit: str = "unknown"
    """Of the code that ran the last try."""

    @classmethod
    def read(cls, folder: Path) -> Record | None:
        """The record in a task's folder; None where no try was made.

        Raises:
            ValueError: The file is damaged.
        """
        try:
            return cls(**json.loads((folder / RECORD).read_text()))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (TypeError, ValueError) as error:  # json's errors are ValueErrors; other keys give a TypeError
            raise ValueError(
                f"{folder / RECORD} is damaged ({error}). Move {folder} away; the same command then makes it again."
            ) from error


class CommandProcess(subprocess.Popen[bytes]):
    """The words of a task in a process group of its own, which inherits the lock: it is free only when the command is gone."""

    def __init__(self, words: list[str], task: Task, log: IO[str], lock: int) -> None:
        super().__init__(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, pass_fds=[lock],
            cwd=task.cwd, env={**os.environ, **task.environment}, start_new_session=True,
        )  # fmt: skip


@runtime_checkable
class Command(Protocol):
    """A command that runs, with the methods of `subprocess.Popen`."""

    pid: int

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, number: int) -> None: ...


Start = Callable[[list[str], Task, IO[str], int], Command]
"""Start the words of a task, with its log and the descriptor of its lock."""


def supervise(task: Task, lifeline: int, patience: float = PATIENCE, start: Start = CommandProcess) -> int:
    """Run a task until it ends or the file descriptor ``lifeline`` is closed at its other end; 0 where it is finished.

    Else it is the command's exit code, or 1 where the command ended as if all were well.

    Raises:
        ValueError: The try before still runs after ``patience`` seconds.
    """
    folder = task.path
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "a") as lock:  # "w" would remove the number of the process that holds it
        acquire(lock.fileno(), task.folder, patience)
        task.require_own_folder()
        record = Record.read(folder) or Record(task.command)
        if task.is_finished:  # a supervisor whose caller died may have come to the end
            return 0
        words = task.words()
        if not task.goes_on:
            clear(folder)
        record.tries += 1
        record.exit_code, record.finished, record.commit = None, False, task.commit
        write_json(folder / RECORD, asdict(record))
        began = time.monotonic()
        record.exit_code = run(task, words, lifeline, lock.fileno(), start)
        record.seconds += time.monotonic() - began
        record.finished = task.is_finished
        write_json(folder / RECORD, asdict(record))
        return 0 if record.finished else record.exit_code or 1


def acquire(lock: int, folder: str, patience: float = PATIENCE) -> None:
    """Hold the lock of a task's folder.

    Raises:
        ValueError: Another process still holds it after ``patience`` seconds.
    """
    end = time.monotonic() + patience
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise ValueError(f"another process still works in {folder}; wait for it, or end it") from None
        time.sleep(0.1)


def clear(folder: Path) -> None:
    """Remove the files of a try that cannot be resumed."""
    for path in folder.iterdir():
        if path.name not in OWN:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def run(task: Task, words: list[str], lifeline: int, lock: int, start: Start) -> int:
    """The exit code of the command, as a shell reports it. The lock file holds the number of its process."""
    with open(task.path / LOG, "a") as log:
        print(f"$ {shlex.join(words)}", file=log, flush=True)
        stop = Stop()
        if threading.current_thread() is threading.main_thread():
            for number in ENDING:
                signal.signal(number, lambda number, frame: stop.ask())
        try:
            process = start(words, task, log, lock)
        except OSError as error:
            print(f"error: cannot start {words[0]}: {error.strerror}", file=log)
            return 127
        stop.started(process)
        os.ftruncate(lock, 0)
        os.write(lock, f"{process.pid}\n".encode())
        threading.Thread(target=stop_without, args=(lifeline, stop), daemon=True).start()
        try:
            code = process.wait()
        finally:
            kill(process)  # ranks that outlived the first one
    return code if code >= 0 else 128 - code


class Stop:
    """Asks a command to stop, once, as Ctrl-C does.

    Whoever ends a supervisor by SIGTERM has often sent it to the command and to all others too, as systemd does. The same
    signal a second time would end the command at once, without a checkpoint.
    """

    def __init__(self) -> None:
        self._process: Command | None = None
        self._asked, self._first = False, threading.Lock()

    def ask(self) -> None:
        """Returns at once. A command that is being started is asked as soon as there is one."""
        self._asked = True
        self._send()

    def started(self, process: Command) -> None:
        self._process = process
        if self._asked:
            self._send()

    def _send(self) -> None:
        process = self._process
        if process is not None and self._first.acquire(blocking=False):
            # not to its group: its processes agree on when they stop, and those that it reads its data with go on till then
            process.send_signal(signal.SIGINT)
            threading.Thread(target=kill_after_grace, args=(process,), daemon=True).start()


def stop_without(lifeline: int, stop: Stop) -> None:
    os.read(lifeline, 1)  # returns when the other end is closed, as it is by the end of a process of whatever kind
    stop.ask()


def kill_after_grace(process: Command) -> None:
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        kill(process)


def kill(process: Command) -> None:
    """The command and all processes of its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def take_signals(handler: Any) -> None:
    """Handle the signals that end a process by ``handler``, and Ctrl-C as Python does.

    A process inherits the handling of its parent: Ray's workers block SIGINT, and background jobs ignore it.
    """
    for number in ENDING:
        signal.signal(number, handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


if __name__ == "__main__":
    take_signals(lambda number, frame: sys.exit(128 + number))  # until there is a command
    try:
        sys.exit(supervise(Task(**json.loads(sys.argv[1])), lifeline=0))
    except ValueError as error:
        sys.exit(str(error))
