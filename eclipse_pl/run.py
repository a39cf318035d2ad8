from __future__ import annotations

import fcntl
import netrc
import os
import uuid
from pathlib import Path
from typing import Literal
from urllib.parse import urlparse

from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_only

from eclipse_pl.metrics_file import MetricsFile


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

    def open(self, command: str, checkpoint: str | None) -> Path:
        """Claim the folder of this run; a training run that goes on from its own checkpoint keeps its folder.

        Raises:
            ValueError: another run writes there, or wrote there before.
        """
        home = Path(self.folder) / self.experiment
        origin = None if checkpoint is None else Path(checkpoint).resolve().parent.parent
        resumed = origin is not None and command == "fit" and origin.parent == home.resolve()
        if resumed:
            assert origin is not None
            if self.version not in (None, origin.name):
                raise ValueError(
                    f"run.version is {self.version}, but the run goes on in {origin}. Leave run.version out, or start a new "
                    "run from these weights under another run.experiment."
                )
            self.version = origin.name
        elif rank_zero_only.rank == 0 and self.version is not None and holds_run(home / self.version):  # type: ignore[attr-defined]
            raise ValueError(
                f"{home / self.version} holds a run already. Choose another run.version, leave it out for the next free "
                f"number, or go on with that run: --ckpt_path {home / self.version / 'checkpoints' / 'last.ckpt'}"
            )
        prefix = "version" if command == "fit" else command
        if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            self.version = self._claim(home, prefix, resumed)
        # other ranks write nothing; they are told the folder by trainer.log_dir, which is broadcast
        self.version = self.version or f"{prefix}_0"
        return home / self.version

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

    def loggers(self, path: Path) -> list[Logger]:
        """metrics.csv always; Weights & Biases as asked for, with one line where it stays offline."""
        loggers: list[Logger] = [MetricsFile(path)]
        mode = self.wandb_mode()
        if mode != "disabled":
            os.environ.setdefault("WANDB_SILENT", "true")
            identity = wandb_identity(path)
            name = f"{self.experiment}/{path.name}"
            offline = mode == "offline"
            loggers.append(
                WandbLogger(name=name, save_dir=path, project=self.project, offline=offline, id=identity, resume="allow")
            )
        return loggers

    def wandb_mode(self) -> str:
        """``auto`` resolved by WANDB_MODE, then by whether there is an account."""
        if self.wandb != "auto":
            return self.wandb
        asked = os.environ.get("WANDB_MODE")
        if asked in ("online", "offline", "disabled"):
            return asked
        if has_wandb_account():
            return "online"
        rank_zero_info("No Weights & Biases account found: logging offline; `wandb sync` uploads a run later (run.wandb).")
        return "offline"


def holds_run(path: Path) -> bool:
    """A folder may lie ready with nothing of a run in it: `sweep` keeps a run's output there, from before it starts."""
    return (path / "config.yaml").exists() or (path / "checkpoints").exists()


def wandb_identity(path: Path) -> str | None:
    """A run that goes on is the same run on Weights & Biases, too; only rank 0 talks to it."""
    if rank_zero_only.rank != 0:  # type: ignore[attr-defined]
        return None
    file = path / "wandb.id"
    if not file.is_file():
        file.write_text(uuid.uuid4().hex[:12])
    return file.read_text()


def has_wandb_account() -> bool:
    """True where wandb would not have to ask for a key: in the environment, or in ~/.netrc as `wandb login` leaves it."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return host is not None and netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
