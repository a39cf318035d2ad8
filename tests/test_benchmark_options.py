"""Options of the benchmark that say where its work is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eclipse_pl.__main__ import main as command
from eclipse_pl.commands import benchmark
from eclipse_pl.launch.tasks import TaskEngine
from tests.test_benchmark import write

WORDS = ["benchmark", "--prior=none", "--protocol=protocol.yaml", "--out=out"]


@pytest.fixture(autouse=True)
def _protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prompts = {"class_path": "eclipse_pl.world.prompt_source.WorldPrompts", "init_args": {"per_category": 1}}
    scorers = [{"scorer": {"class_path": "tests.helpers.scorers_for_images.MeanColour"}}]
    write(Path("protocol.yaml"), "eclipse_pl.compbench.compbench.CompBench", {"prompts": prompts, "scorers": scorers})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--only images --processes 8", "each of --processes 8 would do all of its work"),
        ("--task_index 3", "--task-index needs --only images, and then --only scores"),
        ("--task-count 4 --task-index 3", "--task-count needs --only images, and then --only scores"),
        ("--only images --task-count 4 --task-index 4", "--task-index is 4; with --task-count 4 it is 0 to 3"),
        ("--ray-address x:1", "--ray-address has no effect without --engine"),
        ("--engine ray --cpus 0", "--cpus is 0.0; it must be more than 0"),
    ],
)
def test_what_would_do_work_several_times_is_refused(words: str, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Options are written as the answers name them, too."""
    prior = ["--decoder.class_path=eclipse_pl.world.decoder.WorldDecoder"]
    assert command([*WORDS, *prior, *words.split()]) == 2
    assert said in capfd.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize(("more", "count"), [("", 2), ("--jobs 8", 8), ("--jobs 1", 2), ("--jobs 2 --tasks 3", 3)])
def test_there_is_a_task_for_each_job(more: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    monkeypatch.setattr(TaskEngine, "run", lambda self, words, folder, count: counts.append(count))
    monkeypatch.setattr(benchmark, "run", lambda words, ranks: None)
    assert command([*WORDS, "--engine=local", *more.split()]) == 0
    assert counts == [count, count]


def test_dashes_of_values_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: Any = benchmark.underscored(["--task-count=2", "--out", "a-b", "--prior=c-d"])
    assert kept == ["--task_count=2", "--out", "a-b", "--prior=c-d"]
