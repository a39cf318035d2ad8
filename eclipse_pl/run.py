"""A run's folder and its metrics file."""

from __future__ import annotations

import csv
from argparse import Namespace
from pathlib import Path, PurePath
from typing import Any, Literal

from filelock import FileLock, Timeout
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_only

from eclipse_pl.files import atomic_path

HELD: list[FileLock] = []
"""Locks of the folders that this process writes to. A lock that nothing refers to would be released."""


class Run:
    """A run is a folder: ``FOLDER/EXPERIMENT/VERSION/`` with config.yaml, metrics.csv, checkpoints/ and latent.json.

    Args:
        experiment: Name of the experiment. Each experiment's YAML sets it.
        folder: Folder of all runs.
        version: Name of this run; the next free number if not given. A version that exists is refused, unless the run resumes
            from its own checkpoint.
        wandb: ``auto`` sends to Weights & Biases if there is an account on this machine and keeps an offline copy otherwise.
        project: Project on Weights & Biases.
        energy: Read the counters of energy of GPUs (with the extra ``energy``) and processors while the run trains.
    """

    def __init__(
        self,
        experiment: str = "unnamed",
        folder: str = "runs",
        version: str | None = None,
        wandb: Literal["auto", "online", "offline", "disabled"] = "auto",
        project: str = "eclipse_pl",
        energy: bool = False,
    ) -> None:
        self.experiment = experiment
        self.folder = folder
        self.version = version
        self.wandb = wandb
        self.project = project
        self.energy = energy
        self._lock: FileLock | None = None

    def require_free(self, command: str, checkpoint: str | None) -> None:
        """Refuse a version that `open` can never accept, before anything is built. Nothing is written.

        Raises:
            ValueError: Experiment or version names no folder of a run, a run of this version exists, or the run that resumes
                has another version.
        """
        self._require_names()
        origin = self._origin(command, checkpoint)
        if origin is not None:
            if self.version not in (None, origin.name):
                raise ValueError(
                    f"run.version is {self.version}, but the run resumes in {origin}. Leave run.version out, or start a new "
                    "run from these weights under another run.experiment."
                )
        elif self.version is not None and holds_run(self._home / self.version):
            last = self._home / self.version / "checkpoints" / "last.ckpt"
            resumes = command == "fit" and last.is_file()
            remedy = f"resume that run: --ckpt_path {last}" if resumes else "remove that folder"
            raise ValueError(
                f"{self._home / self.version} holds a run already. Choose another run.version, leave it out for the next free "
                f"number, or {remedy}"
            )

    def _require_names(self) -> None:
        experiment = PurePath(self.experiment)
        if not experiment.parts or experiment.is_absolute() or ".." in experiment.parts:
            raise ValueError(
                f"run.experiment is {self.experiment!r}, which is no folder below run.folder {self.folder}: choose a "
                "name, such as quickstart; run.folder says where it lies."
            )
        if self.version in ("", ".", "..") or set(self.version or "") & set("/\\"):
            raise ValueError(
                f"run.version is {self.version!r}, which is no name of one folder: choose a name without slashes, such as "
                "seed_1, or leave it out for the next free number."
            )

    def place(self, command: str, checkpoint: str | None) -> Path | None:
        """The folder of this run, if it is known before `open` finds the next free number."""
        return self._origin(command, checkpoint) or (None if self.version is None else self._home / self.version)

    def open(self, command: str, checkpoint: str | None) -> Path:
        """Claim the folder of this run. A training run that resumes from its own checkpoint keeps its folder.

        One process of a run calls this and sends the folder to the others.

        Raises:
            ValueError: Another run writes to this folder, or wrote to it before.
        """
        self.require_free(command, checkpoint)
        origin = self._origin(command, checkpoint)
        if origin is not None:
            self.version = origin.name
        self.version = self._claim(self._home, "version" if command == "fit" else command, origin is not None)
        return self._home / self.version

    @property
    def _home(self) -> Path:
        return Path(self.folder).expanduser() / self.experiment

    def _origin(self, command: str, checkpoint: str | None) -> Path | None:
        """The folder of the run that resumes; None for a new run."""
        origin = None if checkpoint is None else Path(checkpoint).resolve().parent.parent
        resumes = origin is not None and command == "fit" and origin.parent == self._home.resolve()
        return origin if resumes else None

    def _claim(self, home: Path, prefix: str, resumed: bool) -> str:
        try:
            home.mkdir(parents=True, exist_ok=True)
            version = self.version
            number = 0
            while version is None:
                try:
                    (home / f"{prefix}_{number}").mkdir()
                    version = f"{prefix}_{number}"
                except FileExistsError:
                    number += 1
            (home / version).mkdir(exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error
        lock = FileLock(home / version / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise ValueError(
                f"Another process is writing to {home / version}. Wait for it, or start a new run without --ckpt_path."
            ) from error
        except OSError as error:
            raise self._unwritable(error) from error
        self._lock = lock
        HELD.append(lock)
        if resumed:
            for killed in (home / version / "checkpoints").glob("*.partial"):
                killed.unlink()  # a process that was killed while it wrote a checkpoint
            rank_zero_info(f"Resuming the run in {home / version}.")
        return version

    def _unwritable(self, error: OSError) -> ValueError:
        return ValueError(f"Cannot write to {self._home} ({error.strerror}). Set run.folder to one that can be written.")

    def close(self) -> None:
        """Release the folder. The end of the process also releases it."""
        if self._lock is not None:
            self._lock.release()
            HELD.remove(self._lock)
            self._lock = None


def holds_run(path: Path) -> bool:
    """True if ``path`` holds a run. A folder may exist before its run starts, because `sweep` keeps the output there."""
    return (path / "config.yaml").exists() or (path / "checkpoints").exists()


class MetricsFile(Logger):
    """``metrics.csv`` of a run: a row for each logged step, a column for each metric.

    A run that is resumed continues the same file after the rows that existed when its checkpoint was written (`keep`, or the
    rows before the first repeated step). Lightning's CSVLogger would delete the file first. If a new column appears, the
    whole file is written again.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / "metrics.csv"
        self._columns: list[str] = ["step"]
        self._new: list[dict[str, Any]] = []
        self._last: dict[str, Any] = {}
        self._started = False
        self._kept: int | None = None
        self._written = 0

    @property
    def name(self) -> str:
        return self.path.parent.parent.name

    @property
    def version(self) -> str:
        return self.path.parent.name

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    @property
    def rows(self) -> int:
        """Number of rows of this run, including those before it was resumed."""
        return (self._written if self._started else self._kept or 0) + len(self._new)

    def keep(self, rows: int) -> None:
        """Resume after the first ``rows`` rows of the file; the file changes only when a new row is logged."""
        self._kept = rows if self.path.is_file() else 0

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Does nothing: config.yaml in the same folder holds the resolved config."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = {"step": step, **metrics}
        if row == self._last:  # Lightning repeats a row after a checkpoint
            return
        self._last = dict(row)
        if self._new and self._new[-1]["step"] == step:
            self._new[-1].update(row)
        else:
            self._new.append(row)

    @rank_zero_only
    def save(self) -> None:
        if not self._new:
            return
        columns = sorted({*self._columns, *(name for row in self._new for name in row)} - {"step"})
        if self._started and columns == self._columns[1:]:
            with open(self.path, "a", newline="") as file:
                csv.DictWriter(file, self._columns).writerows(self._new)
        else:
            before = self._rows_before(self._new[0]["step"])
            self._columns = ["step", *sorted({*columns, *(name for row in before for name in row)} - {"step"})]
            self._write([*before, *self._new])
            self._written = len(before)
        self._written += len(self._new)
        self._started, self._new = True, []

    def _rows_before(self, step: int) -> list[dict[str, Any]]:
        if not self.path.is_file():
            return []
        rows = read_metrics(self.path)
        if self._started:
            return rows
        return [row for row in rows if int(row["step"]) < step] if self._kept is None else rows[: self._kept]

    def _write(self, rows: list[dict[str, Any]]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.path) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(rows)


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Rows of a metrics.csv, oldest first; a missing metric is ""."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))
