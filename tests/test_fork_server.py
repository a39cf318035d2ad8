"""Commands that are forked from a process with their imports: they run, fail, stop and die as others do."""

from __future__ import annotations

import csv
import fcntl
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from eclipse_pl.__main__ import main
from eclipse_pl.launch.fork_server import LOST, ForkedCommand, ForkServer
from eclipse_pl.launch.local import Status, run_local
from eclipse_pl.launch.task import INTERPRETER, Record, Task, kill_after_grace
from tests.helpers.runs import TIMES, process_of, wait_for, wait_until, write_experiment

pytestmark = [pytest.mark.processes, pytest.mark.skipif(sys.platform != "linux", reason="sweeps fork on Linux only")]

SCRIPT = """
import os, pathlib, signal, sys, time
folder, *words = sys.argv[1:]
home = pathlib.Path(folder)
(home / "environment").write_text(os.environ["OMP_NUM_THREADS"] + " " + __name__ + " " + " ".join(sys.argv[1:]))
print("to the log")
if "fail" in words:
    raise RuntimeError("broken")
if "sleep" in words:
    try:
        (home / "started").touch()
        time.sleep(60)
    except KeyboardInterrupt:
        (home / "stopped").touch()
        sys.exit(130)
(home / "finished").touch()
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module of the commands."""
    (tmp_path / "forked_module.py").write_text(SCRIPT)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")


def make_task(tmp_path: Path, name: str, *words: str, threads: str = "1") -> Task:
    home = tmp_path / name
    command = ["/usr/bin/env", INTERPRETER, "-m", "forked_module", str(home), *words]
    files = (str(home / "checkpoint"), ["--resume"], str(home / "finished"))
    return Task(name, command, str(home), *files, environment={"OMP_NUM_THREADS": threads})


def server_of() -> ForkServer:
    return ForkServer([], {"OMP_NUM_THREADS": "1"}, ["forked_module"])


def run(*tasks: Task, jobs: int = 3, watch=lambda statuses: None) -> list[Status]:
    statuses = [Status.of(task) for task in tasks]
    with server_of() as server:
        run_local(statuses, jobs, watch, start=server.start)
    return statuses


def test_many_commands_each_with_its_log_record_and_end(tmp_path: Path) -> None:
    tasks = [make_task(tmp_path, f"good{number}", "a word") for number in range(4)]
    *good, failed, other = run(*tasks, make_task(tmp_path, "bad", "fail"), make_task(tmp_path, "other", threads="2"))
    assert [status.state for status in [*good, other]] == ["finished"] * 5
    for task in tasks:
        assert (task.path / "environment").read_text() == f"1 __main__ {task.path} a word"
        assert (task.path / "log.txt").read_text().endswith("to the log\n")
        assert Record.read(task.path).exit_code == 0
    assert (tmp_path / "other" / "environment").read_text().startswith("2 ")
    assert (failed.state, failed.message, failed.last_words) == ("failed", "exit code 1", "RuntimeError: broken")


def test_a_command_is_a_fork_with_its_own_process_group_and_another_environment_is_not_forked(tmp_path: Path) -> None:
    seen = {}

    def look(statuses: list[Status]) -> None:
        for status in statuses:
            if (status.task.path / "started").exists() and status.state == "running" and status.task.name not in seen:
                pid = process_of(status.task.path)
                seen[status.task.name] = (Path(f"/proc/{pid}/cmdline").read_text().split("\0"), os.getpgid(pid) == pid)
                os.kill(pid, signal.SIGKILL)

    forked, fresh = run(make_task(tmp_path, "forked", "sleep"), make_task(tmp_path, "fresh", "sleep", threads="2"), watch=look)
    assert [forked.state, fresh.state] == ["failed", "failed"]
    assert forked.was_killed
    assert Record.read(forked.task.path).exit_code == 128 + signal.SIGKILL
    assert "eclipse_pl.launch.fork_server" in seen["forked"][0]
    assert "forked_module" in seen["fresh"][0]
    assert seen["forked"][1] and seen["fresh"][1]


def test_an_interruption_stops_every_command(tmp_path: Path) -> None:
    statuses = [Status.of(make_task(tmp_path, name, "sleep")) for name in "ab"]

    def interrupt(statuses: list[Status]) -> None:
        if all((status.task.path / "started").exists() for status in statuses) and statuses[0].state == "running":
            raise KeyboardInterrupt

    with server_of() as server, pytest.raises(KeyboardInterrupt):
        run_local(statuses, 2, interrupt, start=server.start)
    assert [status.state for status in statuses] == ["stopped", "stopped"]
    assert all((tmp_path / name / "stopped").exists() for name in "ab")
    assert Record.read(tmp_path / "a").exit_code == 130


def test_the_thread_that_waits_for_the_end_of_a_command_alone_asks_for_it(tmp_path: Path, monkeypatch) -> None:
    """The system tells the end of a process once; a second thread that hears it first would leave the run without an end."""
    (tmp_path / "ends.py").write_text("import sys, time\ntime.sleep(0.5)\nsys.exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    task = Task("ends", [], "ends", "none", [], "none", cwd=str(tmp_path))
    asked, waitpid = [], os.waitpid

    def ask(process: int, options: int) -> tuple[int, int]:
        asked.append(threading.current_thread())
        return waitpid(process, options)

    with open(tmp_path / "log.txt", "w") as log:
        command = ForkedCommand([sys.executable, "-m", "ends"], task, log, lock=0)
        monkeypatch.setattr(os, "waitpid", ask)
        other = threading.Thread(target=kill_after_grace, args=(command,))
        other.start()
        assert command.wait() == 3
        other.join()
    assert set(asked) == {threading.main_thread()}


def test_a_server_that_is_killed_takes_its_commands_with_it(tmp_path: Path) -> None:
    server = server_of()

    def kill(statuses: list[Status]) -> None:
        if (tmp_path / "one" / "started").exists() and statuses[0].state == "running":
            server._server.kill()

    statuses = [Status.of(make_task(tmp_path, "one", "sleep"))]
    with server:
        run_local(statuses, 1, kill, start=server.start)
    assert (statuses[0].state, statuses[0].message) == ("failed", LOST)
    wait_for(tmp_path / "one" / "stopped")
    with open(tmp_path / "one" / ".task.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


def test_tasks_of_a_killed_server_have_ended_when_there_is_another_one(tmp_path: Path) -> None:
    """The second one's pipe got the first one's number: its messages were lost, and the old tasks ran for ever."""
    with server_of() as server:
        lost = [server.start(make_task(tmp_path, name, "sleep")) for name in "ab"]
        for name in "ab":
            wait_for(tmp_path / name / "started")
        server._server.kill()
        server._server.wait()
        good = server.start(make_task(tmp_path, "c", "a word"))
        wait_until(lambda: all(one.ended for one in [*lost, good]))
        assert [one.outcome() for one in [*lost, good]] == [(-signal.SIGKILL, LOST)] * 2 + [(0, "")]


def test_a_sweep_that_is_killed_takes_its_server_with_it_which_says_nothing(tmp_path: Path, capfd) -> None:
    server = server_of()
    server.start(make_task(tmp_path, "one", "sleep"))
    wait_for(tmp_path / "one" / "started")
    process = server._server
    process.stdin.close()
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert (tmp_path / "one" / "stopped").exists()
    assert capfd.readouterr().err == ""


def test_the_reason_of_a_supervisor_arrives(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "results.txt").touch()
    (status,) = run(make_task(tmp_path, "one"))
    assert status.state == "failed"
    assert "was not made by this command" in status.message


def test_the_server_imports_before_its_first_task_and_what_a_module_prints_is_no_reply(tmp_path: Path) -> None:
    (tmp_path / "chatty.py").write_text(
        f"import pathlib\nprint('hello')\npathlib.Path({str(tmp_path / 'imported')!r}).touch()"
    )
    statuses = [Status.of(make_task(tmp_path, "one"))]
    with ForkServer(["chatty"], {"OMP_NUM_THREADS": "1"}, ["forked_module"]) as server:
        server.begin()
        wait_for(tmp_path / "imported")
        run_local(statuses, 1, lambda statuses: None, start=server.start)
    assert statuses[0].state == "finished"


def test_a_server_without_a_task_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "slow_import.py").write_text(
        f"import pathlib, time\npathlib.Path({str(tmp_path / 'begun')!r}).touch()\ntime.sleep(600)"
    )
    start = time.monotonic()
    with ForkServer(["slow_import"], {}, []) as server:
        server.begin()
        wait_for(tmp_path / "begun")
    assert time.monotonic() - start < 300


@pytest.mark.long
def test_a_forked_run_has_the_numbers_of_a_run_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    experiment = write_experiment(tmp_path, trainer__max_steps=4, trainer__val_check_interval=2)
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(
        "name: forked\nmethod: grid\nparameters:\n  seed_everything:\n    values: [0, 1]\nprogram: eclipse_pl\n"
        f'command: ["${{env}}", "${{interpreter}}", -m, "${{program}}", fit, --config, {experiment}, "${{args}}"]\n'
    )
    assert main(["sweep", str(sweep), "--jobs", "2"]) == 0
    assert main(["fit", "--config", str(experiment), "--seed_everything", "1", "--run.version", "alone"]) == 0
    columns = []
    for folder in ("forked/seed_everything=1", "tiny/alone"):
        with open(tmp_path / "runs" / folder / "metrics.csv") as file:
            columns.append([{key: value for key, value in row.items() if key not in TIMES} for row in csv.DictReader(file)])
    assert columns[0] == columns[1]
    assert columns[0][-1]["val/cosine"]
