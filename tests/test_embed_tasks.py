from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.__main__ import main
from eclipse_pl.data.manifest import Manifest
from eclipse_pl.data.shards import ShardWriter
from eclipse_pl.embed.written_set import RemoteSet
from eclipse_pl.launch.share import Share
from tests.helpers.raw_sets import contents, raw_set, sample, write_tar
from tests.helpers.shard_sets import make_chunk

PYTHONPATH = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
SLURM = tuple(f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "MIN", "MAX", "COUNT"))


@given(st.integers(0, 40), st.integers(1, 12))
def test_shares_are_disjoint_and_leave_nothing_out(names: int, count: int) -> None:
    shares = [Share(index, count) for index in range(count)]
    assert sorted(name for share in shares for name in share.of(range(names))) == list(range(names))
    for share in shares:
        order = share.first_of(range(names))
        assert sorted(order) == list(range(names)) and order[: len(share.of(range(names)))] == share.of(range(names))


def test_which_share_a_command_line_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SLURM:
        monkeypatch.delenv(name, raising=False)
    assert Share.of_options(None, None) == Share(0, 1) and Share.of_options(2, 3) == Share(2, 3)
    with pytest.raises(ValueError, match=r"--task-index 2 needs --task-count"):
        Share.of_options(2, None)
    with pytest.raises(ValueError, match=r"--task-index is 3; with --task-count 3 it is 0 to 2"):
        Share.of_options(3, 3)
    with pytest.raises(ValueError, match=r"--task-count 3 needs --task-index, from 0 to 2"):
        Share.of_options(None, 3)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    assert Share.of_options(None, 3) == Share(2, 3) and Share.of_options(0, 3) == Share(0, 3)


def in_array(monkeypatch: pytest.MonkeyPatch, numbers: list[int]) -> list[Share]:
    """The shares that the tasks of a job array of SLURM with these numbers take of 64."""
    shares = []
    for number in numbers:
        for name, value in zip(SLURM, (number, min(numbers), max(numbers), len(numbers)), strict=True):
            monkeypatch.setenv(name, str(value))
        shares.append(Share.of_options(None, 64))
    return shares


def test_a_task_of_an_array_takes_its_own_share_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [Share(index, 64) for index in range(64)]
    for first in (0, 1, 10):
        assert in_array(monkeypatch, list(range(first, first + 64))) == whole
    assert in_array(monkeypatch, [0, 5, 7]) == [whole[0], whole[5], whole[7]], "only an array from 0 has a task 0"
    with pytest.raises(ValueError, match=r"--task-index is 64; with --task-count 64 it is 0 to 63"):
        in_array(monkeypatch, list(range(65)))
    for part in ([5, 7], [1], [63, 64], list(range(1, 64)), list(range(1, 66)), list(range(1, 129, 2))):
        with pytest.raises(
            ValueError, match=rf"number {part[0]} of a job array .* begins at {part[0]} .*--task-index \$SLURM"
        ):
            in_array(monkeypatch, part)
    assert Share.of_options(5, 64) == whole[5], "what the command line names comes first"
    monkeypatch.delenv("SLURM_ARRAY_TASK_COUNT")
    with pytest.raises(ValueError, match=r"so its share is not known"):
        Share.of_options(None, 64)


def words_of(folder: Path, clip_folder: Path, sources: list[str]) -> list[str]:
    encoder = ["--encoder.model", f"local-dir:{clip_folder}", "--encoder.pretrained", "null", "--encoder.device", "cpu"]
    sizes = ["--chunk", "4", "--batch-size", "3", "--workers", "0", "--val", "0.2", "--test", "0.1"]
    return ["embed", "--source", *sources, "--out", str(folder / "set"), *encoder, *sizes]


@pytest.mark.long
def test_tasks_in_any_order_make_the_set_of_one_process(
    tmp_path: Path, clip_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = raw_set(tmp_path / "raw", tars=5)
    words = words_of(tmp_path, clip_folder, sources)
    assert main(words) == 0
    whole = contents(tmp_path / "set")
    (tmp_path / "set").rename(tmp_path / "whole")
    for index in (2, 0, 1):
        assert not (tmp_path / "set" / "manifest.json").exists()
        capsys.readouterr()
        assert main([*words, "--task-index", str(index), "--task-count=3"]) == 0
        printed = capsys.readouterr().out
    assert "5 shards" in printed
    made = {name: content for name, content in contents(tmp_path / "set").items() if not name.endswith(".lock")}
    assert made == {name: content for name, content in whole.items() if not name.endswith(".lock")}
    (tmp_path / "set" / "0003.tar").unlink()
    assert main([*words, "--task-index", "1", "--task-count", "3"]) == 0
    assert "1 of 5 shards are missing, which other tasks make" in capsys.readouterr().out
    assert main([*words, "--task-index", "0", "--task-count", "3"]) == 0
    assert (tmp_path / "set" / "0003.tar").read_bytes() == whole["0003.tar"]


def test_tasks_that_look_at_a_url_leave_each_other_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first, second = RemoteSet("memory://tasks"), RemoteSet("memory://tasks")
    first.work.mkdir(parents=True)
    named = ["0000.tar", "0001.tar"]
    first.begin({"chunk": 4}, named)
    upload = first.folder.write

    def slow_upload(name: str, path: Path) -> None:
        """Another task begins, or ends, before and after each upload."""
        second.fetch()
        upload(name, path)
        second.fetch()

    monkeypatch.setattr(first.folder, "write", slow_upload)
    for number, name in enumerate(named):
        with ShardWriter(first.work / name, before=first.forget) as writer:
            writer.write(make_chunk(np.random.default_rng(number), 3, dim=8, width=6), "train")
            first.put(writer.close())
    second.fetch()
    assert sorted(second.finished(())) == named and (second.work / "embed.json").is_file()
    second.folder.remove("0000.tar.json")
    second.fetch()
    assert sorted(second.finished(())) == ["0001.tar"], "what is not at the URL any more is forgotten"


@pytest.mark.processes
def test_the_local_engine_and_a_source_that_is_broken(
    tmp_path: Path, clip_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", PYTHONPATH)
    sources = raw_set(tmp_path / "raw", tars=2)
    words = words_of(tmp_path, clip_folder, [*sources, str(tmp_path / "raw" / "last.tar")])
    write_tar(tmp_path / "raw" / "last.tar", {"9": sample(9)})
    whole = (tmp_path / "raw" / "last.tar").read_bytes()
    (tmp_path / "raw" / "last.tar").write_bytes(whole[:700])
    with pytest.raises(SystemExit) as left:
        main([*words, "--engine", "local", "--jobs", "2", "--tasks", "2"])
    printed = capsys.readouterr()
    assert left.value.code == 1 and "1 of 2 tasks failed; the same command runs them again" in printed.err
    assert "1 of 2 sources could not be read to their end" in printed.err and "1-of-2: finished" in printed.out
    (tmp_path / "raw" / "last.tar").write_bytes(whole)
    (tmp_path / "engine.yaml").write_text("engine: local\ntasks: 1\njobs: 1\n")
    assert main([words[0], "--config", str(tmp_path / "engine.yaml"), *words[1:]]) == 0, "its tasks make no tasks"
    assert "3 shards" in capsys.readouterr().out
    assert main([*words, "--engine", "local", "--tasks", "1"]) == 0
    assert "3 shards" in capsys.readouterr().out
    manifest = Manifest.load(tmp_path / "set")
    assert "--engine" not in manifest.made_by and "--jobs" not in manifest.made_by and "--tasks" not in manifest.made_by
    (tmp_path / "set").rename(tmp_path / "tasks")
    assert main(words) == 0
    assert Manifest.load(tmp_path / "set") == manifest
    for more, expected in {
        ("--engine", "local", "--gpus", "1"): "--gpus has no effect with --engine local",
        ("--engine", "ray", "--jobs", "1"): "--jobs has no effect with --engine ray",
        ("--jobs", "2"): "--jobs has no effect without --engine",
        ("--engine", "local", "--task-count", "2", "--task-index", "0"): "--task-count has no effect with --engine local",
    }.items():
        assert main([*words, *more]) == 2 and expected in capsys.readouterr().err


def processes_below(process: int) -> list[int]:
    """All descendants of a process that still run."""
    found = []
    for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
        found += [int(child), *processes_below(int(child))]
    return found


def kill_at_random(command: list[str], folder: Path, kills: int, seconds: tuple[float, float], seed: int = 0) -> int:
    """Run a command until it succeeds. Kill one of its processes now and then; return the number of its starts."""
    import random

    draw, left, starts = random.Random(seed), kills, 0
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    while True:
        starts += 1
        with (folder / "log.txt").open("a") as log:
            process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        ended = threading.Event()
        threading.Thread(target=lambda process=process, ended=ended: (process.wait(), ended.set()), daemon=True).start()
        while left and not ended.wait(draw.uniform(*seconds)):
            try:
                victim = draw.choice([process.pid, *processes_below(process.pid)])
                os.kill(victim, signal.SIGKILL)
                left -= 1
            except (FileNotFoundError, ProcessLookupError):
                continue
        process.wait()
        if process.returncode == 0:
            return starts
        assert starts < kills + 5, (folder / "log.txt").read_text()
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["none", "local", "ray"])
def test_processes_that_are_killed_at_random(tmp_path: Path, engine: str) -> None:
    if engine == "ray":
        pytest.importorskip("ray")
    more = {"none": [], "local": ["--jobs", "2", "--tasks", "8"], "ray": ["--tasks", "8"]}[engine]
    more += [] if engine == "none" else ["--engine", engine]
    sizes = ["--train", "9000", "--val", "500", "--test", "500", "--shard-pairs", "200"]
    assert main(["world", "--out", f"{tmp_path}/raw", *sizes]) == 0
    command = [sys.executable, "-m", "data_prep", "embed", "--source", "../raw/*.tar", "--out", "set", "--encoder"]
    for name in ("killed", "whole"):
        (tmp_path / name).mkdir()
    slow = [*command, "tests.helpers.slow_encoder.SlowWorldEncoder", *more]
    starts = kill_at_random(slow, tmp_path / "killed", kills=10, seconds=(5.0, 30.0))
    whole = [*command, "tests.helpers.slow_encoder.SlowWorldEncoder"]
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    subprocess.run(whole, cwd=tmp_path / "whole", check=True, env=environment)
    ours, theirs = (files_of(tmp_path / name / "set") for name in ("killed", "whole"))
    assert len(theirs) > 50 and ours == theirs
    print(f"{starts} starts of the command")


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.suffix != ".lock"}
