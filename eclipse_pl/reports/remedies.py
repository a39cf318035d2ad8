"""Commands, ready to type, that repair what a comparison cannot use."""

from __future__ import annotations

import shlex
from pathlib import Path

from eclipse_pl.reports.measurement import Measurement

WORLD = "WorldDataModule"


def measure_again(measurement: Measurement, *more: str) -> str:
    """``more`` are options that it did not have, or others than it had."""
    if not measurement.is_repeatable:
        return f"It cannot be measured again, because there is no checkpoint {measurement.checkpoint}: leave it out."
    return f"Measure it again, and compare the new run instead: `{measurement.command(*more)}`."


def measure_on_one_set(measurement: Measurement) -> str:
    """A world is made by its config, so another folder is no choice there."""
    if str(measurement.config.get("data.class_path")).endswith(WORLD) or not measurement.is_repeatable:
        return "Measure both on one set of shards, and compare these runs."
    measured = measurement.command("--data.init_args.folder=FOLDER")
    return f"Measure both on one set of shards, this one by `{measured}`, and compare these runs."


def finish(folder: Path) -> str:
    """The command that resumes a run from its last checkpoint."""
    if not (folder / "checkpoints" / "last.ckpt").is_file():
        return "It has no checkpoint to resume from: remove it, or leave it out, and start its command again."
    words = ["--config", str(folder / "config.yaml"), "--ckpt_path", str(folder)]
    return f"Finish it: `{shlex.join(['python', '-m', 'eclipse_pl', 'fit', *words])}`."
