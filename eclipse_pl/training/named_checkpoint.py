"""The checkpoint that --ckpt_path names, and the config of its run."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from eclipse_pl.arguments import near_file
from eclipse_pl.priors.checkpoint import require_one_run

OPTION = "--ckpt_path"
LATEST = ("last", "best")
"""Names of checkpoints of the experiment that the config states."""


def with_config_of_run(words: Sequence[str]) -> list[str]:
    """Return a command line of ``validate`` or ``test`` with the config of the run that ``--ckpt_path`` names.

    A command line with a ``--config`` is returned as it is. The run that is measured keeps its name and its files: the
    measurement gets the next free version beside it, unless ``--run.version`` says another.

    Raises:
        ValueError: There is no such run or checkpoint, or it is the folder of an experiment.
    """
    following = [*words[1:], ""]
    named = [word.partition("=")[2] or after for word, after in zip(words, following, strict=True) if is_option(word)]
    if words[:1] not in (["validate"], ["test"]) or not named or any(is_config(word) for word in words):
        return list(words)
    path = Path(named[-1]).expanduser()
    if not path.exists() and named[-1] not in LATEST:
        raise ValueError(f"{OPTION} {path}: there is no such run or checkpoint.{near_file(str(path))}")
    folder = path.parent.parent if path.suffix == ".ckpt" else path
    config = folder / "config.yaml"
    if not config.is_file():  # the parser would ask for all that a config states
        require_one_run(folder, f"{OPTION} {named[-1]}")
    return [words[0], "--config", str(config), "--run.version=null", *words[1:]] if config.is_file() else list(words)


def is_option(word: str) -> bool:
    return word.partition("=")[0] == OPTION


def is_config(word: str) -> bool:
    return word.partition("=")[0] in ("-c", "--config")


def written(file: Path) -> float:
    """The time at which a file was written; 0 where another run has removed it since it was listed."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def checkpoint_path(value: str, runs: str, experiment: str) -> Path:
    """The checkpoint that ``--ckpt_path`` names: a file, a run's folder, or ``last`` or ``best`` of the experiment."""
    folder, path = Path(runs).expanduser(), Path(value).expanduser()
    home = folder / experiment
    if value in LATEST:
        own = sorted(home.glob(f"*/checkpoints/{value}*.ckpt"), key=written)
        if not own:
            remedy = "" if value == "last" else " A run keeps its best checkpoint if checkpoint.monitor names a metric."
            raise ValueError(f"--ckpt_path {value}: there is no such checkpoint below {home} yet.{remedy}")
        path = own[-1]
    elif path.is_dir():
        path = path / "checkpoints" / "last.ckpt"
    if not path.is_file():
        known = [str(file) for file in folder.glob("*/*/checkpoints/*.ckpt")]
        near = difflib.get_close_matches(str(path), known, n=3, cutoff=0.3)
        hint = f"Near it: {', '.join(near)}" if near else f"None lies below {folder}."
        raise ValueError(f"There is no checkpoint {path}. {hint}")
    return path
