"""ForkServer: a process that has imported what commands need, and forks a supervisor and its command for each task.

A command spends seconds on its imports, and a sweep of short runs would spend them once a run. The commands stay what they
are: a process each, with a folder, a lock, an environment and an end of its own. ``python -m eclipse_pl.launch.fork_server
OPTIONS`` is the server: it reads tasks from its input, a JSON list a line, and writes their ends to its output.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from multiprocessing import connection, get_context
from multiprocessing.context import ForkProcess
from typing import IO, Any

from eclipse_pl.launch.local import Supervisor
from eclipse_pl.launch.task import CommandProcess, Task, supervise, take_signals

CanFork = Callable[[list[str], Task], bool]
"""Whether the words of a task are forked."""
LOST = "the process that starts the runs was killed"


class Messages:
    """The JSON values, one a line, that arrive at a file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor, self._rest = descriptor, b""

    def read(self) -> list[Any] | None:
        """Wait for some; None at the end. Not a text file, whose buffer would hide lines from `connection.wait`."""
        block = os.read(self.descriptor, 1 << 16)
        if not block:
            return None
        *lines, self._rest = (self._rest + block).split(b"\n")
        return [json.loads(line) for line in lines]


class ForkServer:
    """The server's handle. Leave its ``with`` block only when all supervisors have ended.

    Args:
        imports: Modules that the server imports at its start.
        environment: Variables of the server. Tasks with others are started in a new Python.
        commands: Modules whose commands, ``python -m MODULE ...``, are forked. Others are started in a new Python.
    """

    def __init__(
        self, imports: Sequence[str], environment: dict[str, str], commands: Sequence[str] = ("eclipse_pl", "data_prep")
    ) -> None:
        options = {"imports": list(imports), "environment": environment, "commands": list(commands)}
        self._words = [sys.executable, "-m", "eclipse_pl.launch.fork_server", json.dumps(options)]
        self._environment = environment
        self._server: subprocess.Popen[str] | None = None
        self._killed: list[subprocess.Popen[str]] = []
        self._ends: dict[int, tuple[int, str]] = {}
        self._started = 0

    def begin(self) -> None:
        """Start the server, which imports while this process goes on. The first task starts it where this was not called."""
        if self._server is not None:
            # kept open: else the next server's pipe gets the number of this one's, from which its supervisors still read
            self._killed.append(self._server)
        # a session of its own keeps the terminal's Ctrl-C away
        self._server = subprocess.Popen(
            self._words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, **self._environment},
        )  # fmt: skip
        assert self._server.stdout is not None
        self._messages = Messages(self._server.stdout.fileno())

    def start(self, task: Task, gpus: Sequence[str] = ()) -> Supervisor:
        """The supervisor of a task, which sees these GPUs, or those of this process."""
        if self._server is None or self._server.poll() is not None:
            self.begin()
        self._started += 1
        number = self._started
        if not self._send([number, asdict(task), list(gpus)]):
            self._ends[number] = (-signal.SIGKILL, LOST)
        return ForkedSupervisor(self, number, self._messages)

    def stop(self) -> None:
        """Stop all tasks: the end of the server's input is the sign."""
        assert self._server is not None
        assert self._server.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._server.stdin.close()

    def end_of(self, number: int, messages: Messages, wait: bool) -> tuple[int, str] | None:
        """Exit code and message of a supervisor; None while it runs."""
        while number not in self._ends and (wait or connection.wait([messages.descriptor], 0)):
            if (ends := messages.read()) is None:
                return -signal.SIGKILL, LOST
            self._ends |= {ended: (code, message) for ended, code, message in ends}
        return self._ends.get(number)

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(self, *error: object) -> None:
        if self._server is not None:
            self.stop()
            if not self._started:
                self._server.kill()  # its imports would be waited for
            with self._server:
                pass
        for server in self._killed:
            with contextlib.suppress(BrokenPipeError), server:
                pass

    def _send(self, message: list[Any]) -> bool:
        assert self._server is not None
        assert self._server.stdin is not None
        try:
            print(json.dumps(message), file=self._server.stdin, flush=True)
        except BrokenPipeError:
            return False
        return True


class ForkedSupervisor(Supervisor):
    """A supervisor that the server has forked."""

    def __init__(self, owner: ForkServer, number: int, messages: Messages) -> None:
        self._owner, self._number, self._messages = owner, number, messages

    @property
    def ended(self) -> bool:
        return self._owner.end_of(self._number, self._messages, wait=False) is not None

    def stop(self) -> None:
        self._owner.stop()

    def outcome(self) -> tuple[int, str]:
        end = self._owner.end_of(self._number, self._messages, wait=True)
        assert end is not None
        return end


class ForkedCommand:
    """A command in a fork of the supervisor, with the methods of `subprocess.Popen` that the supervisor uses.

    Two threads wait for it. ``wait`` without a timeout alone asks the system for its end, which is told once: had the other
    thread asked first, the end would be lost, and ``task.json`` never written.
    """

    def __init__(self, words: list[str], task: Task, log: IO[str], lock: int) -> None:
        log.flush()
        self._process = get_context("fork").Process(target=run_module, args=(words, task, log.fileno()))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        self._ended = threading.Event()

    def wait(self, timeout: float | None = None) -> int:
        if timeout is None:
            self._process.join()
            self._ended.set()
        elif not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired("", timeout)
        assert self._process.exitcode is not None
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.kill(self.pid, number)


def run_module(words: list[str], task: Task, log: int) -> None:
    """``python -m MODULE ...`` in a process that was forked for it. It ends as the interpreter would end it."""
    os.setsid()
    os.chdir(task.cwd)
    for source, target in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    take_signals(signal.SIG_DFL)
    module, sys.argv = words[2], words[2:]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()


def serve(lifeline: int, alive: int, replies: int, can_fork: CanFork) -> None:
    """Fork a supervisor for each task that arrives. After the end of the input all tasks stop, and their ends are told."""
    fork, tasks = get_context("fork"), Messages(0)
    running: dict[int, tuple[int, ForkProcess, connection.Connection]] = {}
    open_input = True
    while open_input or running:
        ready = connection.wait([*([0] if open_input else []), *running])
        arrived = tasks.read() if 0 in ready else []
        if arrived is None:
            open_input = False
            os.close(alive)
        for number, fields, gpus in arrived or []:
            reader, writer = fork.Pipe(duplex=False)
            process = fork.Process(target=attend, args=(Task(**fields), gpus, can_fork, lifeline, alive, writer))
            process.start()
            writer.close()
            running[process.sentinel] = (number, process, reader)
        for sentinel in [one for one in running if one in ready]:
            number, process, reader = running.pop(sentinel)
            process.join()
            message = ""
            with contextlib.suppress(EOFError):
                message = reader.recv() if reader.poll() else ""
            with contextlib.suppress(BrokenPipeError):  # the sweep was killed
                os.write(replies, json.dumps([number, process.exitcode, message]).encode() + b"\n")


def attend(task: Task, gpus: list[str], can_fork: CanFork, lifeline: int, alive: int, message: Any) -> None:
    """The supervisor of a task, in a fork of the server."""
    os.close(alive)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    take_signals(lambda number, frame: sys.exit(128 + number))

    def start(words: list[str], task: Task, log: IO[str], lock: int) -> CommandProcess | ForkedCommand:
        words = words[1:] if words[0] == "/usr/bin/env" and words[1] == sys.executable else words
        return (ForkedCommand if can_fork(words, task) else CommandProcess)(words, task, log, lock)

    try:
        sys.exit(supervise(task, lifeline, start=start))
    except ValueError as error:
        message.send(str(error))
        sys.exit(1)


def main(imports: list[str], environment: dict[str, str], commands: list[str]) -> None:
    take_signals(signal.SIG_DFL)
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # a fork cannot use CUDA after any other check
    replies = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not look like a reply
    for name in imports:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what was imported stays, so that no fork need search it, nor copy its pages to mark them

    def can_fork(words: list[str], task: Task) -> bool:
        return words[:2] == [sys.executable, "-m"] and words[2] in commands and task.environment == environment

    serve(*os.pipe(), replies, can_fork)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
