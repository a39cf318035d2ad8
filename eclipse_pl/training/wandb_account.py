"""Weights & Biases: whether there is an account, whether its server answers, and the logger that follows from it."""

from __future__ import annotations

import netrc
import os
import threading
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import urlparse

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_info

Mode = Literal["online", "offline", "disabled"]

PATIENCE = 8.0
"""Seconds in which the server must answer; wandb itself would try for minutes."""


def wandb_mode(asked: Literal["auto", "online", "offline", "disabled"]) -> Mode:
    """``auto`` resolved by WANDB_MODE, then by whether there is an account and a way to it; one line prints why it is offline.

    Raises:
        ValueError: ``online`` was asked for, and the server does not answer.
    """
    environment = os.environ.get("WANDB_MODE")
    mode = environment if asked == "auto" and environment in get_args(Mode) else asked
    if mode == "auto" and not has_wandb_account():
        rank_zero_info("No Weights & Biases account found: logging offline; `wandb sync` uploads a run later (run.wandb).")
        return "offline"
    if mode in ("offline", "disabled") or answers(server()):
        return "online" if mode == "auto" else mode  # type: ignore[return-value]
    if mode == "online":
        raise ValueError(
            f"run.wandb (or WANDB_MODE) is online, and {server()} does not answer. Set run.wandb to offline; `wandb sync` "
            "uploads the run later."
        )
    rank_zero_info(f"Weights & Biases ({server()}) does not answer: logging offline; `wandb sync` uploads a run later.")
    return "offline"


def wandb_logger(mode: Mode, path: Path, project: str, identity: str | None) -> WandbLogger:
    """The logger of the run in ``path``; a resumed run is the same run on Weights & Biases, too."""
    os.environ.setdefault("WANDB_SILENT", "true")
    name = f"{path.parent.name}/{path.name}"
    return WandbLogger(name=name, save_dir=path, project=project, offline=mode == "offline", id=identity, resume="allow")


def wandb_identity(path: Path) -> str:
    file = path / "wandb.id"
    if not file.is_file():
        file.write_text(uuid.uuid4().hex[:12])
    return file.read_text()


def server() -> str:
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")


def has_wandb_account() -> bool:
    """True where wandb would not have to ask for a key: in the environment, or in ~/.netrc as `wandb login` leaves it."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlparse(server()).hostname
    try:
        return host is not None and netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def answers(url: str, patience: float = PATIENCE) -> bool:
    """Whether a server answers, through a proxy where the environment names one."""
    answered = threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen(url, timeout=patience).close()
        except urllib.error.HTTPError:
            pass
        except (OSError, ValueError):
            return
        answered.set()

    # a name server that does not answer keeps to no time-out, so the asking is left behind
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(patience)
    return answered.is_set()
