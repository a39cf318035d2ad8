"""What a sweep can run: the Lightning commands, and the benchmark."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from eclipse_pl.callbacks.checkpoints import FINISHED
from eclipse_pl.commands.benchmark import STATED
from eclipse_pl.sweeps.readers import ArgumentReader, BenchmarkReader


class Target(ABC):
    """A command line, read without building anything, and the folder of its run."""

    def __init__(self, sweep: str, version: str) -> None:
        self.sweep, self.version = sweep, version

    @property
    @abstractmethod
    def identity(self) -> list[str]:
        """Flags that give the run its own folder."""

    @property
    @abstractmethod
    def resume(self) -> list[str]:
        """Flags that resume an interrupted run; they work where `checkpoint` is a file."""

    @property
    @abstractmethod
    def checkpoint(self) -> Path: ...

    @property
    @abstractmethod
    def finished_by(self) -> Path:
        """The file that the command writes last."""

    @property
    @abstractmethod
    def folder(self) -> Path: ...

    @property
    @abstractmethod
    def config(self) -> Path:
        """The file that states what ran. Older folders of a benchmark have none."""


class RunTarget(Target):
    """fit, validate, test: a run's folder, FOLDER/SWEEP/VERSION."""

    reader = ArgumentReader()  # made once: its parser takes longer to build than to use

    def __init__(self, sweep: str, version: str, words: list[str]) -> None:
        super().__init__(sweep, version)
        self._command = words[0]
        self._folder = Path(self.reader.read([*words, *self.identity]).run.folder).expanduser() / sweep / version

    @property
    def identity(self) -> list[str]:
        return [f"--run.experiment={self.sweep}", f"--run.version={self.version}"]

    @property
    def folder(self) -> Path:
        return self._folder

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoints" / "last.ckpt"  # validate and test never write one

    @property
    def finished_by(self) -> Path:
        return self.folder / (FINISHED if self._command == "fit" else "latent.json")

    @property
    def resume(self) -> list[str]:
        return ["--ckpt_path", str(self.folder)]


class BenchmarkTarget(Target):
    """benchmark: its own folder, runs/SWEEP/VERSION. It resumes by itself."""

    reader = BenchmarkReader()

    def __init__(self, sweep: str, version: str, words: list[str]) -> None:
        super().__init__(sweep, version)
        self.reader.read([*words, *self.identity])

    @property
    def identity(self) -> list[str]:
        return [f"--out={self.folder}"]

    @property
    def folder(self) -> Path:
        return Path("runs") / self.sweep / self.version

    @property
    def config(self) -> Path:
        return self.folder / STATED

    @property
    def checkpoint(self) -> Path:
        return self.folder / "benchmark.json"

    @property
    def finished_by(self) -> Path:
        return self.folder / "scorecard.json"

    @property
    def resume(self) -> list[str]:
        return []


TARGETS: dict[str, type[RunTarget] | type[BenchmarkTarget]] = {
    "fit": RunTarget,
    "validate": RunTarget,
    "test": RunTarget,
    "benchmark": BenchmarkTarget,
}


def stated(command: str, defaults: bool = True) -> dict[str, Any]:
    """The config that the command's reader read last; without ``defaults`` only options with another value."""
    return TARGETS[command].reader.stated(defaults)
