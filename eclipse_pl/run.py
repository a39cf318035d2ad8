from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Literal

from lightning.pytorch.utilities.rank_zero import rank_zero_info


class Run:
    """A run is a folder: ``FOLDER/EXPERIMENT/VERSION/`` with config.yaml, metrics.csv, checkpoints/ and latent.json.

    Args:
        experiment: Name of the experiment. Experiments state their own.
        folder: Where all runs lie.
        version: Name of this run; the next free number if not given. A version that exists is refused, unless the run goes on
            from a checkpoint of its own.
        wandb: ``auto`` sends to Weights & Biases if there is an account on this machine and keeps an offline copy otherwise.
        project: Project on Weights & Biases.
    """

    def __init__(
        self,
        experiment: str = "unnamed",
        folder: str = "runs",
        version: str | None = None,
        wandb: Literal["auto", "online", "offline", "disabled"] = "auto",
        project: str = "eclipse_pl",
    ) -> None:
        self.experiment = experiment
        self.folder = folder
        self.version = version
        self.wandb = wandb
        self.project = project
        self._lock: int | None = None

    def require_free(self, command: str, checkpoint: str | None) -> None:
        """Refuse what `open` would refuse for ever, before anything is built; nothing is written.

        Raises:
            ValueError: a run of this version is there already, or the run that goes on has another one.
        """
        origin = self._origin(command, checkpoint)
        if origin is not None:
            if self.version not in (None, origin.name):
                raise ValueError(
                    f"run.version is {self.version}, but the run goes on in {origin}. Leave run.version out, or start a new "
                    "run from these weights under another run.experiment."
                )
        elif self.version is not None and holds_run(self._home / self.version):
            raise ValueError(
                f"{self._home / self.version} holds a run already. Choose another run.version, leave it out for the next free "
                f"number, or go on with that run: --ckpt_path {self._home / self.version / 'checkpoints' / 'last.ckpt'}"
            )

    def place(self, command: str, checkpoint: str | None) -> Path | None:
        """The folder of this run, where it is known before `open` finds the next free number."""
        return self._origin(command, checkpoint) or (None if self.version is None else self._home / self.version)

    def open(self, command: str, checkpoint: str | None) -> Path:
        """Claim the folder of this run; a training run that goes on from its own checkpoint keeps its folder.

        One process of a run does so, and tells the others.

        Raises:
            ValueError: another run writes there, or wrote there before.
        """
        self.require_free(command, checkpoint)
        origin = self._origin(command, checkpoint)
        if origin is not None:
            self.version = origin.name
        self.version = self._claim(self._home, "version" if command == "fit" else command, origin is not None)
        return self._home / self.version

    @property
    def _home(self) -> Path:
        return Path(self.folder) / self.experiment

    def _origin(self, command: str, checkpoint: str | None) -> Path | None:
        """The folder of the run that goes on; None is a new one."""
        origin = None if checkpoint is None else Path(checkpoint).resolve().parent.parent
        goes_on = origin is not None and command == "fit" and origin.parent == self._home.resolve()
        return origin if goes_on else None

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
            self._lock = os.open(home / version / ".lock", os.O_WRONLY | os.O_CREAT)
        except OSError as error:
            raise ValueError(
                f"Cannot write to {home} ({error.strerror}). Set run.folder to one that can be written."
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise ValueError(
                f"Another process is writing to {home / version}. Wait for it, or start a new run without --ckpt_path."
            ) from error
        if resumed:
            rank_zero_info(f"Going on with the run in {home / version}.")
        return version

    def close(self) -> None:
        """Let go of the folder; the end of the process does the same."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def holds_run(path: Path) -> bool:
    """A folder may lie ready with nothing of a run in it: `sweep` keeps a run's output there, from before it starts."""
    return (path / "config.yaml").exists() or (path / "checkpoints").exists()
