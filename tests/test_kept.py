"""The file of finished runs (``sweep --csv``): whose runs it has, of which code, and two writers at once."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from eclipse_pl.callbacks.slurm import note_job, requeued_run
from eclipse_pl.files import only_process, write_json
from eclipse_pl.launch.local import Status
from eclipse_pl.launch.task import Record, Task, supervise
from eclipse_pl.sweeps import kept as module
from eclipse_pl.sweeps import plan as plans
from eclipse_pl.sweeps.config_hash import hash_of
from eclipse_pl.sweeps.kept import KeptRuns
from eclipse_pl.sweeps.plan import SweepPlan
from eclipse_pl.sweeps.sweep_file import SweepFile

ROOT = Path(__file__).parents[1]
SEEDS: dict[str, object] = {"seed_everything": {"values": [0, 1]}}


@pytest.fixture
def csv_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plans, "commit", lambda: "started")
    return tmp_path / "kept.csv"


def plan_of(*more: str, parameters: dict[str, object] = SEEDS) -> SweepPlan:
    content = {"name": "tiny", "method": "grid", "parameters": parameters}
    config = str(ROOT / "experiments/quickstart.yaml")
    content["command"] = ["${interpreter}", "-m", "eclipse_pl", "fit", "--config", config, *more, "${args}"]
    Path("sweep.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return SweepPlan(SweepFile.read("sweep.yaml"), None, 0, "1", hashed=True)


def finish(plan: SweepPlan, *places: int, **fields: str) -> list[Status]:
    """Leave what finished runs leave; the statuses of all."""
    for run in [plan.runs[place] for place in places]:
        run.task.path.mkdir(parents=True, exist_ok=True)
        record = asdict(Record(run.task.command, tries=1, exit_code=0)) | {"commit": run.task.commit} | fields
        write_json(run.task.path / "task.json", {name: value for name, value in record.items() if value != ""})
        (run.task.path / "finished.json").write_text("{}")
        (run.task.path / "metrics.csv").write_text("step,val/cosine\n1,0.5\n")
    return [Status.of(run.task) for run in plan.runs]


def lines(path: Path) -> dict[str, dict[str, str]]:
    text = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return {line["version"]: line for line in csv.DictReader(text)}


def keep(path: Path, *places: int, **fields: str) -> None:
    plan = plan_of()
    kept = KeptRuns(path, plan, "command")
    kept.add(finish(plan, *places, **fields))


def test_only_finished_runs_count(csv_file: Path) -> None:
    keep(csv_file, 0, 1)
    csv_file.write_text(csv_file.read_text().replace("finished", "failed", 1).replace("runs failed", "runs finished"))
    csv_file.write_text(csv_file.read_text().replace(",0,finished", ",0,failed"))
    assert [line["state"] for line in lines(csv_file).values()] == ["failed", "finished"]
    Path("runs").rename("gone")
    plan = plan_of()
    kept = KeptRuns(csv_file, plan, "command")
    assert [run.version for run in plan.runs] == ["seed_everything=0"]
    assert [run.version for run in kept.elsewhere] == ["seed_everything=1"]
    kept.add(finish(plan, 0))
    assert [line["state"] for line in lines(csv_file).values()] == ["finished", "finished"]


def test_runs_of_another_experiment_are_refused(csv_file: Path) -> None:
    """Whether they have the same names or not."""
    keep(csv_file, 0, 1)
    Path("runs").rename("gone")
    with pytest.raises(ValueError, match=r"made with another config.*empty the column config_hash"):
        KeptRuns(csv_file, plan_of("--trainer.max_steps=3"), "command")
    other: dict[str, object] = {"seed_everything": {"values": [2, 3]}}
    with pytest.raises(ValueError, match=r"seed_everything=0, made with another config"):
        KeptRuns(csv_file, plan_of("--trainer.max_steps=3", parameters=other), "command")
    assert KeptRuns(csv_file, plan_of(parameters=other), "command").elsewhere == []
    hashes = {line["config_hash"] for line in lines(csv_file).values()}
    text = csv_file.read_text()
    for each in hashes:
        text = text.replace(each, "")
    csv_file.write_text(text)
    assert len(KeptRuns(csv_file, plan_of("--trainer.max_steps=3"), "command").elsewhere) == 2, "the remedy"
    rows = [line.rpartition(",")[0] for line in text.splitlines() if not line.startswith("#")]
    csv_file.write_text("\n".join(["# command", "# commit old, 2 of 2 runs finished", *rows, ""]))
    assert len(KeptRuns(csv_file, plan_of(), "command").elsewhere) == 2, "files of older releases have no such column"


def test_a_hash_is_that_of_what_changes_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = {"data": {"folder": "/here/coco", "cache": f"{tmp_path}/cache"}, "model": {"lr": 0.1}, "seed_everything": 1}
    same = {"seed_everything": 1, "model": {"lr": 0.1}, "data": {"cache": "cache", "folder": "/mnt/coco"}}
    swept = ["seed_everything"]
    assert hash_of(config, swept) == hash_of(same | {"run": {"version": "x", "folder": "/tmp/runs"}}, swept)
    common, own = hash_of(config, swept).split("-")
    assert hash_of(config | {"seed_everything": 2}, swept).startswith(f"{common}-")
    assert not hash_of(config | {"seed_everything": 2}, swept).endswith(own)
    for other in ({"data": {"folder": "/here/karlo", "cache": "cache"}}, {"model": {"lr": 0.2}}):
        assert common not in hash_of(config | other, swept)
    deep = {"data": {"folder": str(tmp_path / "data/coco")}}
    monkeypatch.chdir("/")
    assert hash_of(deep, swept) == hash_of({"data": {"folder": "/mnt/coco"}}, swept), "whatever the working folder"
    inner = {"model": {"prior": {"init_args": {"layers": 1}}}}
    assert hash_of(inner, ["model.prior.layers"]).split("-")[0] == hash_of({}, [])[:8], "init_args may be left out"


def test_a_job_of_slurm_that_is_queued_again_has_the_same_hash(csv_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = plan_of()
    finish(before, 0)
    run = before.runs[0].task.path
    (run / "checkpoints").mkdir()
    (run / "checkpoints/last.ckpt").touch()
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    note_job(run)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert requeued_run(run.parent, run.name) == run
    assert [each.config_hash for each in plan_of().runs] == [each.config_hash for each in before.runs]


def test_options_that_are_new_in_the_code_change_no_hash(csv_file: Path) -> None:
    """A default that is stated, and one that is not, are the same config."""
    before, after = (plan_of(*more).runs[0].config_hash for more in ((), ("--trainer.accumulate_grad_batches=1",)))
    assert before == after != plan_of("--trainer.accumulate_grad_batches=2").runs[0].config_hash


def test_the_commit_is_that_of_the_code_that_ran(csv_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of()
    kept = KeptRuns(csv_file, plan, "command")
    monkeypatch.setattr(plans, "commit", lambda: "edited")
    kept.add(finish(plan, 0))
    assert lines(csv_file)["seed_everything=0"]["commit"] == "started"
    plan = plan_of()
    KeptRuns(csv_file, plan, "command").add(finish(plan, 1))
    assert [line["commit"] for line in lines(csv_file).values()] == ["started", "edited"], "what has run keeps its own"
    csv_file.unlink()
    keep(csv_file, 0, commit="")
    assert lines(csv_file)["seed_everything=0"]["commit"] == "unknown", "a record of an older release"
    csv_file.write_text(csv_file.read_text().replace("unknown", "known").replace("0.5", "0.4"))
    keep(csv_file, 0, commit="")
    assert lines(csv_file)["seed_everything=0"]["val/cosine"] == "0.5"
    assert lines(csv_file)["seed_everything=0"]["commit"] == "known", "but that of its line in the file"


def test_a_try_records_the_commit_of_its_task(csv_file: Path) -> None:
    plan = plan_of()
    task = plan.runs[0].task
    assert task.commit == "started"
    lifeline, other_end = os.pipe()
    command = [sys.executable, "-c", "open('done', 'w')"]
    assert supervise(Task("one", command, "one", "one/none", [], "done", commit="abc"), lifeline) == 0
    os.close(other_end)
    record = Record.read(Path("one"))
    assert record is not None and record.commit == "abc"


def test_two_writers_lose_no_line(csv_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one waits for the first, who has read the file and not written it."""
    plans_of = [plan_of(), plan_of()]
    first, second = (KeptRuns(csv_file, plan, "command") for plan in plans_of)
    finish(plans_of[0], 0, 1)
    statuses = [[Status.of(run.task) for run in plan.runs] for plan in plans_of]
    statuses[0][1].state = statuses[1][0].state = "running"
    has_read, go_on = threading.Event(), threading.Event()
    write: Callable[[KeptRuns, dict[str, dict[str, str]]], None] = KeptRuns._write

    def slow_write(kept: KeptRuns, found: dict[str, dict[str, str]]) -> None:
        if kept is first:
            has_read.set()
            go_on.wait(20)
        write(kept, found)

    monkeypatch.setattr(KeptRuns, "_write", slow_write)
    threads = [threading.Thread(target=kept.add, args=(each,)) for kept, each in zip((first, second), statuses, strict=True)]
    threads[0].start()
    assert has_read.wait(20)
    threads[1].start()
    threads[1].join(0.5)
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert list(lines(csv_file)) == ["seed_everything=0", "seed_everything=1"]


def test_a_file_that_another_process_holds(csv_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    code = "from pathlib import Path; from eclipse_pl.files import only_process\n"
    code += f"with only_process(Path({str(csv_file.parent)!r}), 'kept.csv.lock', ''): print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None and process.stdout.readline()
        with pytest.raises(ValueError, match=r"kept\.csv\.lock.*choose another file with --csv"):
            keep(csv_file, 0)
        process.communicate(b"\n")
    keep(csv_file, 0)
    with only_process(csv_file.parent, "kept.csv.lock", ""):
        assert list(lines(csv_file)) == ["seed_everything=0"]
