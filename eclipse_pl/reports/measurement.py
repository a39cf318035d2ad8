"""Measurement: how a run was measured, so that a command can measure it so again."""

from __future__ import annotations

import csv
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eclipse_pl.dotted_keys import flat
from eclipse_pl.priors.checkpoint import read_config
from eclipse_pl.reports.origin import Origin, resumed_itself


@dataclass(frozen=True)
class Measurement:
    """What ``validate`` or ``test`` measured; of a run of ``fit`` its last checkpoint, which ``validate`` measures too.

    The config in the folder has all settings of the measurement: those of the prior that differ from the training's, the
    shards, the number of samples.
    """

    verb: str
    folder: Path
    """Of the run whose table it is."""
    weights: Path
    """The checkpoint, or the folder of a run for its ``last``; it need not be there any more."""
    config: dict[str, Any]
    """Dotted keys of the folder's config.yaml."""

    @classmethod
    def of(cls, folder: Path, report: dict[str, Any] | None = None) -> Measurement:
        """``report`` is the content of latent.json; without it, as where it is damaged, the logged metrics tell the verb."""
        report = report or {}
        config = flat(read_config(folder / "config.yaml")) if (folder / "config.yaml").is_file() else {}
        checkpoint = config.get("ckpt_path")
        verb = report.get("command") or verb_of(folder)
        if verb == "fit" or checkpoint is None or resumed_itself(folder, config):
            return cls("validate", folder, folder, config)
        origin = Origin.of_run(folder, config, report)
        path = Path(str(checkpoint)).expanduser()
        if origin.folder is not None:
            path = origin.folder if path.name == "last.ckpt" else origin.folder / "checkpoints" / path.name
        elif origin.stranger:
            path = folder  # the weights that lie at the old path are others; here are none
        return cls(verb, folder, path, config)

    @property
    def checkpoint(self) -> Path:
        """The file of the weights."""
        return self.weights if self.weights.suffix == ".ckpt" else self.weights / "checkpoints" / "last.ckpt"

    @property
    def is_repeatable(self) -> bool:
        return self.config != {} and self.checkpoint.is_file()

    def command(self, *more: str) -> str:
        """What measures the same weights with the same settings, in a new run; ``more`` are options that change them."""
        # the name of the run is taken; without one the next free number is
        named = ["--run.version=null"] if self.config.get("run.version") is not None else []
        words = ["--config", str(self.folder / "config.yaml"), "--ckpt_path", str(self.weights), *named, *more]
        return shlex.join(["python", "-m", "eclipse_pl", self.verb, *words])


def verb_of(folder: Path) -> str:
    """``fit``, ``validate`` or ``test``, by the names of what the run logged."""
    path = folder / "metrics.csv"
    if not path.is_file():
        return "validate"
    with open(path, newline="", encoding="utf-8") as file:
        parts = {name.partition("/")[0] for name in next(csv.reader(file), [])}
    return next((verb for part, verb in {"train": "fit", "test": "test"}.items() if part in parts), "validate")
