"""Several processes of one benchmark: how long they wait for each other, and how they end when one of them fails."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from traceback import format_exception
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from lightning.fabric import Fabric
from PIL import Image
from torch.multiprocessing import ProcessRaisedException

from eclipse_pl.__main__ import main as command
from eclipse_pl.commands import benchmark
from eclipse_pl.problems import SeveralProblems
from eclipse_pl.scorers.scorer import Score
from tests.helpers.scorers_for_images import MeanColour

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/full/disk")


class FailsOnOne(MeanColour):
    """A scorer that fails on one image, of the process that has it. The other process waits."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def score(self, images: Sequence[Image.Image], prompts: Any) -> list[Score]:
        if any(prompt.category == "shape" for prompt in prompts):
            if self.how == "disk":
                raise FULL
            os.kill(os.getpid(), signal.SIGKILL)
        return super().score(images, prompts)


def words(folder: Path, how: str) -> list[str]:
    prompts = {"per_category": 1, "categories": ["colour", "shape"]}
    protocol = {
        "prompts": {"class_path": "eclipse_pl.world.prompt_source.WorldPrompts", "init_args": prompts},
        "scorers": [{"scorer": {"class_path": "tests.test_benchmark_processes.FailsOnOne", "init_args": {"how": how}}}],
        "block": 2,
    }
    file = folder / "protocol.yaml"
    file.write_text(yaml.safe_dump({"class_path": "eclipse_pl.compbench.compbench.CompBench", "init_args": protocol}))
    model = "--text_to_image=tests.helpers.scorers_for_images.Grey"
    return ["benchmark", f"--protocol={file}", model, f"--out={folder / 'out'}", "--processes=2"]


@pytest.mark.long
@pytest.mark.processes
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("disk", "error: cannot write: No space left on device (/full/disk)."),
        ("memory", "error: A process of the benchmark was killed (process 1 terminated with signal SIGKILL)"),
    ],
)
def test_one_process_that_fails_ends_all(tmp_path: Path, capfd: pytest.CaptureFixture[str], how: str, message: str) -> None:
    assert command(words(tmp_path, how)) == 2  # the other one would wait for days
    said = capfd.readouterr().err
    assert message in said and "Traceback" not in said


def patience(fabric: Fabric, words: list[str]) -> dict[str, float]:
    backend = torch.distributed.group.WORLD._get_backend(torch.device("cpu"))
    return {"seconds": backend.options._timeout.total_seconds()}


@pytest.mark.long
@pytest.mark.processes
def test_processes_wait_for_days(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's own patience is half an hour, and one process may generate, or measure distances, for longer."""
    monkeypatch.setattr(benchmark, "share", patience)
    assert benchmark.shared([], 2) == {"seconds": timedelta(days=7).total_seconds()}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("a value with\ntwo lines"), "error: a value with\ntwo lines\n"),
        (SeveralProblems(["one thing", "another thing"]), "error: 2 problems:\n  - one thing\n  - another thing\n"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "error: 'utf-8' codec can't decode byte 0xff"),
        (FULL, "error: cannot write: No space left on device (/full/disk).\n"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "error: Permission denied (/x).\n"),
        (OSError("of no number"), None),
        (RuntimeError("a bug"), None),
    ],
)
def test_an_error_of_one_process_is_as_it_would_be_without_others(
    error: Exception, message: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a process only the text of its traceback comes back."""

    def fails(words: list[str], ranks: Any) -> None:
        raise error

    def launch(self: Fabric, function: Any, *args: Any) -> None:
        try:
            function(SimpleNamespace(global_rank=1, world_size=2, barrier=print, broadcast=print), *args)
        except Exception as found:
            text = "".join(format_exception(found))
            raise ProcessRaisedException(f"\n\n-- Process 1 terminated with the following error:\n{text}", 1, 7) from None

    monkeypatch.setattr(benchmark, "run", fails)
    monkeypatch.setattr(Fabric, "launch", launch)
    if message is None:
        with pytest.raises(ProcessRaisedException, match=f"{type(error).__name__}: {error}"):
            command(words(tmp_path, "none"))
    else:
        assert command(words(tmp_path, "none")) == 2
        assert capsys.readouterr().err.startswith(message)
