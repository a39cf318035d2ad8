"""Commands, ready to type, that repair what a comparison cannot use."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

WORLD = "WorldDataModule"


def measure(training: Path, config: dict[str, Any], *more: str) -> str:
    """The command that measures the weights of a run in a new run; ``config`` has the dotted keys of the old one."""
    # the name of the run that trained is taken; without one the next free number is
    named = ["--run.version=null"] if config.get("run.version") is not None else []
    return command("validate", training, *named, *more)


def measure_again(training: Path, config: dict[str, Any], *more: str) -> str:
    if not has_checkpoint(training):
        return f"It cannot be measured again, because {training} has no checkpoint: leave it out."
    return f"Measure it again, and compare the new run instead: `{measure(training, config, *more)}`."


def measure_on_one_set(training: Path, config: dict[str, Any]) -> str:
    """A world is made by its config, so another folder is no choice there."""
    if str(config.get("data.class_path")).endswith(WORLD) or not has_checkpoint(training):
        return "Measure both on one set of shards, and compare these runs."
    measured = measure(training, config, "--data.init_args.folder=FOLDER")
    return f"Measure both on one set of shards, this one by `{measured}`, and compare these runs."


def finish(folder: Path) -> str:
    """The command that resumes a run from its last checkpoint."""
    if not has_checkpoint(folder):
        return "It has no checkpoint to resume from: remove it, or leave it out, and start its command again."
    return f"Finish it: `{command('fit', folder)}`."


def command(verb: str, folder: Path, *more: str) -> str:
    words = ["--config", str(folder / "config.yaml"), "--ckpt_path", str(folder), *more]
    return shlex.join(["python", "-m", "eclipse_pl", verb, *words])


def has_checkpoint(folder: Path) -> bool:
    return (folder / "checkpoints" / "last.ckpt").is_file()
