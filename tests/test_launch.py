"""Many commands, each in a process and a folder of its own: what is done stays done, and nothing runs on unseen."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path

import pytest

from eclipse_pl.files import write_json
from eclipse_pl.launch import task as task_module
from eclipse_pl.launch import tasks as tasks_module
from eclipse_pl.launch.local import Status, SupervisorProcess, run_local
from eclipse_pl.launch.progress import report_failures
from eclipse_pl.launch.task import ENDING, INTERPRETER, CommandProcess, Record, Task, supervise
from eclipse_pl.launch.tasks import TaskEngine
from tests.helpers.runs import process_of, started, wait_for, wait_until

pytestmark = pytest.mark.processes

PATIENCE = 60  # seconds: a busy machine stalls for longer than a stop takes


THEN_FINISHED = """
import sys
code, finished = sys.argv[1:3]
del sys.argv[1:3]
try:
    exec(code)
except SystemExit as stop:
    if stop.code:
        raise
open(finished, "w")
"""


def make_task(folder: Path, code: str, name: str = "one", **fields) -> Task:
    """A task that is finished where its code ends well."""
    home = folder / name
    command = [INTERPRETER, "-c", THEN_FINISHED, code, str(home / "finished")]
    return Task(name, command, str(home), str(home / "checkpoint"), ["--resume"], str(home / "finished"), **fields)


def run(*tasks: Task, jobs: int = 2, watch=lambda statuses: None) -> list[Status]:
    statuses = [Status.of(task) for task in tasks]
    run_local(statuses, jobs, watch)
    return statuses


def nothing_runs(folder: Path) -> bool:
    """No process holds a lock below ``folder``: commands and supervisors are gone."""
    for path in folder.glob("*/.task.lock"):
        with open(path) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return True


def test_a_failure_does_not_stop_the_rest(tmp_path):
    codes = dict(zip("abcd", (3, 0, 1, 0), strict=True))
    tasks = [make_task(tmp_path, f"print('task', {code}); exit({code})", name) for name, code in codes.items()]
    statuses = run(*tasks)
    assert [status.state for status in statuses] == ["failed", "finished", "failed", "finished"]
    assert statuses[0].message == "exit code 3"
    assert statuses[0].last_words == "task 3"
    assert Record.read(tmp_path / "d").command == tasks[3].command
    assert (tmp_path / "d" / "log.txt").read_text().startswith(f"$ {sys.executable} -c")


def test_what_is_finished_is_not_run_again_and_what_failed_is(tmp_path):
    tasks = [make_task(tmp_path, f"print('x'); exit({code})", str(code)) for code in (0, 1)]
    for _ in range(2):
        statuses = run(*tasks)
    assert [status.state for status in statuses] == ["finished", "failed"]
    assert [(tmp_path / name / "log.txt").read_text().count("\nx\n") for name in "01"] == [1, 2]
    assert [Record.read(tmp_path / name).tries for name in "01"] == [1, 2]


def test_a_task_is_finished_by_its_last_file_whatever_the_exit_code(tmp_path):
    said = {"stopped": "print('x'); sys.exit(0)", "unwell": "print('x'); open(sys.argv[1], 'w'); exit(3)"}
    tasks = []
    for name, code in said.items():
        home = tmp_path / name
        command = [INTERPRETER, "-c", f"import sys; {code}", str(home / "last")]
        tasks.append(Task(name, command, str(home), str(home / "checkpoint"), [], str(home / "last")))
    for _ in range(2):
        statuses = run(*tasks)
    assert [status.state for status in statuses] == ["failed", "finished"]
    assert statuses[0].message == f"exit code 0, but it did not write {tmp_path}/stopped/last"
    assert [(tmp_path / name / "log.txt").read_text().count("\nx\n") for name in said] == [2, 1]
    record = Record.read(tmp_path / "unwell")
    assert (record.exit_code, record.finished) == (3, True)


def test_a_task_that_finished_with_an_error_is_reported(tmp_path, capfd):
    well = make_task(tmp_path, "print('well')", "well")
    home = tmp_path / "unwell"
    words = [INTERPRETER, "-c", f"open({str(home / 'last')!r}, 'w'); print('4 images have no score'); exit(1)"]
    unwell = Task("unwell", words, str(home), str(home / "checkpoint"), [], str(home / "last"))
    statuses = run(well, unwell)
    assert [status.state for status in statuses] == ["finished", "finished"]
    report_failures(statuses[:1], "run")
    for again in (statuses, [Status.of(well), Status.of(unwell)]):
        with pytest.raises(SystemExit) as stop:
            report_failures(again, "run")
        assert stop.value.code == 1
        said = capfd.readouterr().err
        assert "1 of 2 runs finished with an error; results are kept. To run one again, move its folder away:" in said
        assert f"{home}/log.txt: exit code 1: 4 images have no score" in said
    with pytest.raises(SystemExit):
        report_failures(statuses, "run", Path("kept.csv"))
    assert "To run one again, move its folder away and remove its line from kept.csv:" in capfd.readouterr().err
    record = Record.read(home)
    record.exit_code = 128 + signal.SIGKILL
    write_json(home / "task.json", asdict(record))
    report_failures(statuses, "run")


@pytest.mark.parametrize("content", ["", "[1]", '{"command": ["x"], "unknown": 1}'])
def test_a_damaged_record_is_named(tmp_path, content):
    task = make_task(tmp_path, "print(1)")
    task.path.mkdir()
    (task.path / "task.json").write_text(content)
    with pytest.raises(ValueError, match=r"one/task\.json is damaged .*Move .*one away"):
        Status.of(task)


def test_so_many_at_once_and_no_more(tmp_path):
    code = f"import os, time; now = f'{tmp_path}/now.{{os.getpid()}}'; open(now, 'w'); time.sleep(1); os.remove(now)"
    seen = []

    def watch(statuses):
        seen.append((len(list(tmp_path.glob("now.*"))), sum(status.state == "running" for status in statuses)))

    run(*(make_task(tmp_path, code, str(number)) for number in range(5)), jobs=2, watch=watch)
    assert max(running for running, _ in seen) == 2
    assert max(told for _, told in seen) == 2


def test_environment_and_working_folder(tmp_path):
    task = make_task(tmp_path, "import os; print(os.getcwd(), os.environ['OMP_NUM_THREADS'])",
                     environment={"OMP_NUM_THREADS": "7"}, cwd=str(tmp_path))  # fmt: skip
    (status,) = run(task)
    assert status.last_words == f"{tmp_path} 7"


def test_a_command_that_does_not_exist(tmp_path):
    home = tmp_path / "one"
    (status,) = run(Task("one", ["no-such-program"], str(home), str(home / "checkpoint"), [], str(home / "finished")))
    assert (status.state, status.message) == ("failed", "exit code 127")
    assert "cannot start no-such-program" in status.last_words


def test_a_task_resumes_from_its_checkpoint(tmp_path):
    code = f"import sys; open(r'{tmp_path}/one/checkpoint', 'w'); print(sys.argv[1:]); exit('--resume' not in sys.argv)"
    task = make_task(tmp_path, code)
    assert [run(task)[0].state for _ in range(2)] == ["failed", "finished"]
    log = (tmp_path / "one" / "log.txt").read_text()
    assert "[]\n" in log
    assert "['--resume']\n" in log


def test_without_a_checkpoint_it_begins_in_an_empty_folder(tmp_path):
    code = "import os; print(sorted(os.listdir())); os.makedirs('made/below'); open('half', 'w'); exit(1)"
    task = make_task(tmp_path, f"import os; os.chdir(r'{tmp_path}/one'); {code}")
    run(task), run(task)
    lines = (tmp_path / "one" / "log.txt").read_text().splitlines()
    assert [line for line in lines if line.startswith("[")] == ["['.task.lock', 'log.txt', 'task.json']"] * 2


def test_a_folder_with_other_results_is_refused_and_left_alone(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "precious").write_text("")
    with pytest.raises(ValueError, match=r"holds something that was not made by this command"):
        make_task(tmp_path, "").require_own_folder()
    (status,) = run(make_task(tmp_path, "print(1)"))
    assert status.state == "failed"
    assert "not made by this command" in status.message
    assert (tmp_path / "one" / "precious").exists()


def test_another_command_is_refused_by_the_words_that_differ(tmp_path):
    run(make_task(tmp_path, "print(1)", "same"))
    with pytest.raises(ValueError, match=r"made by another command: 'print\(1\)' there is 'print\(2\)' now\. .*mixed"):
        make_task(tmp_path, "print(2)", "same").require_own_folder()
    make_task(tmp_path, "print(1)", "same").require_own_folder()


SAY_WHEN_STOPPED = """
import pathlib, time
folder = pathlib.Path({!r})
try:
    (folder / "started").touch()
    time.sleep(60)
except KeyboardInterrupt:
    (folder / "stopped").touch()
    exit(130)
"""


def test_an_interruption_stops_every_command_and_the_next_start_resumes(tmp_path):
    tasks = [make_task(tmp_path, SAY_WHEN_STOPPED.format(str(tmp_path / name)), name) for name in "abc"]
    statuses = [Status.of(task) for task in tasks]

    def watch(statuses):
        if all((tmp_path / name / "started").exists() for name in "ab") and statuses[0].state == "running":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_local(statuses, 2, watch)
    assert [status.state for status in statuses] == ["stopped", "stopped", "waiting"]
    assert all((tmp_path / name / "stopped").exists() for name in "ab")
    assert Record.read(tmp_path / "a").exit_code == 130
    assert nothing_runs(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_runs_on_when_the_caller_is_killed(tmp_path, number):
    task = make_task(tmp_path, SAY_WHEN_STOPPED.format(str(tmp_path / "one")))
    code = f"from eclipse_pl.launch.local import *; run_local([Status.of(Task(**{asdict(task)!r}))], 1, print)"
    with started([sys.executable, "-c", code], stdout=subprocess.DEVNULL) as caller:
        wait_for(tmp_path / "one" / "started")
        caller.send_signal(number)
    wait_for(tmp_path / "one" / "stopped")
    wait_until(lambda: Record.read(tmp_path / "one").exit_code is not None)
    record = Record.read(tmp_path / "one")
    assert record.exit_code == 130
    assert record.seconds > 0


def in_thread(task: Task, lifeline: int, **options) -> tuple[threading.Thread, list]:
    codes = []
    thread = threading.Thread(target=lambda: codes.append(supervise(task, lifeline, **options)))
    thread.start()
    return thread, codes


def test_a_command_that_is_deaf_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(task_module, "GRACE", 0.3)
    code = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    code += f"open(r'{tmp_path}/one/started', 'w'); time.sleep(60)"
    read, write = os.pipe()
    thread, codes = in_thread(make_task(tmp_path, code), read)
    wait_for(tmp_path / "one" / "started")
    os.close(write)
    thread.join(PATIENCE)
    os.close(read)
    assert codes == [128 + signal.SIGKILL]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("whom", ["supervisor", "all", "caller too"])
def test_a_supervisor_that_is_ended_asks_its_command_to_stop_once(tmp_path, number, whom):
    """So the command writes its checkpoint, also where it got the signal too: the same one again would end it at once."""
    code = f"""
import signal, sys, time
asked = []
def stop(number, frame):
    asked.append(number)
    signal.signal(number, signal.SIG_DFL)
for one in (signal.SIGINT, {int(number)}):
    signal.signal(one, stop)
open(r"{tmp_path}/one/started", "w")
while not asked:
    time.sleep(0.01)
time.sleep(1)
open(r"{tmp_path}/one/checkpoint", "w")
sys.exit(128 + asked[0])
"""
    supervisor = SupervisorProcess(make_task(tmp_path, code))
    wait_for(tmp_path / "one" / "started")
    command = process_of(tmp_path / "one")
    if whom != "supervisor":
        os.kill(command, number)
    supervisor.process.send_signal(number)
    if whom == "caller too":
        supervisor.stop()
    supervisor.process.wait(PATIENCE)
    first = supervisor.outcome()[0] - 128
    assert first == signal.SIGINT or (whom != "supervisor" and first == number)
    assert Record.read(tmp_path / "one").exit_code == 128 + first
    assert (tmp_path / "one" / "checkpoint").exists()


def test_a_signal_that_comes_while_the_command_is_started_reaches_it(tmp_path):
    """It ended the supervisor, and the command ran on unseen."""

    def start(words, task, log, lock):
        os.kill(os.getpid(), signal.SIGTERM)
        command = CommandProcess(words, task, log, lock)
        wait_for(tmp_path / "one" / "started")
        return command

    before = {number: signal.signal(number, lambda *_: None) for number in ENDING}  # so that this process lives on
    read, write = os.pipe()
    try:
        code = SAY_WHEN_STOPPED.format(str(tmp_path / "one")).replace("60", "20")
        assert supervise(make_task(tmp_path, code), read, start=start) == 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(write)
        os.close(read)


def test_two_supervisors_never_work_in_one_folder(tmp_path):
    task = make_task(tmp_path, SAY_WHEN_STOPPED.format(str(tmp_path / "one")))
    read, write = os.pipe()
    thread, codes = in_thread(task, read)
    wait_for(tmp_path / "one" / "started")
    with pytest.raises(ValueError, match="another process still works in"):
        supervise(task, read, patience=0.3)
    os.close(write)
    thread.join(PATIENCE)
    os.close(read)
    assert codes == [130]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_supervisor_that_is_killed(tmp_path, number):
    """It takes its command with it if it can; if not, the command keeps the folder from the next try."""
    supervisors = []
    start = lambda *of: supervisors.append(SupervisorProcess(*of)) or supervisors[-1]  # noqa: E731
    code = f"import os, time; print(os.getpid(), flush=True); open(r'{tmp_path}/one/started', 'w'); time.sleep(60)"
    task = make_task(tmp_path, code)
    statuses = [Status.of(task)]

    def kill_supervisor(statuses):
        if (tmp_path / "one" / "started").exists():
            supervisors[0].process.send_signal(number)

    run_local(statuses, 1, kill_supervisor, start=start)
    assert statuses[0].state == "failed"
    if number == signal.SIGTERM:
        assert nothing_runs(tmp_path)
        return
    with pytest.raises(ValueError, match="another process still works in"):
        supervise(task, lifeline=-1, patience=0.3)
    os.kill(int(statuses[0].last_words), signal.SIGKILL)


STOPS_SLOWLY = """
import pathlib, time
folder = pathlib.Path({!r})
if (folder / "started").exists():
    exit(0 if (folder / "ended").exists() else 7)
try:
    (folder / "started").touch()
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(1)
    (folder / "ended").touch()
    exit(130)
"""


@pytest.mark.parametrize("share", ["0-of-1", "1-of-2"])
def test_a_launcher_waits_for_the_tasks_of_one_that_was_killed(tmp_path, monkeypatch, share):
    """Another number of tasks, too: its tasks do the same work."""
    code = STOPS_SLOWLY.format(str(tmp_path))
    read, write = os.pipe()
    thread, _ = in_thread(make_task(tmp_path / "tasks", code, share), read)
    wait_for(tmp_path / "started")
    monkeypatch.setattr(tasks_module, "_task", lambda *_: make_task(tmp_path / "tasks", code, "0-of-1"))
    os.close(write)  # the launcher is gone
    TaskEngine("local").run(["eclipse_pl", "x"], tmp_path, 1)
    thread.join(PATIENCE)
    os.close(read)
    assert Record.read(tmp_path / "tasks" / "0-of-1").exit_code == 0


@pytest.mark.parametrize(("option", "value"), [("tasks", 0), ("jobs", 0), ("cpus", 0.0), ("gpus", -1.0)])
def test_options_of_an_engine_out_of_their_range(option, value):
    with pytest.raises(ValueError, match=f"--{option} is {value}; it must be "):
        TaskEngine("local" if option == "jobs" else "ray", **{option: value})
