"""Origin: the run that trained what another folder measured, where it is found and is really that run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from eclipse_pl.callbacks.training_data import TRAINING_DATA_FILE
from eclipse_pl.dotted_keys import flat
from eclipse_pl.priors.checkpoint import read_checkpoint, read_config
from eclipse_pl.priors.prior import TrainingData, tensors_sha256
from eclipse_pl.reports.score_record import ScoreRecord

MEASURING = ("validate", "test")
ADAPTER = "LoraPrior"
"""`load_prior` gives the prior that it adapts, with other weights than those of the checkpoint."""


@dataclass(frozen=True)
class Measured:
    """What a measurement records of the weights that it measured. None or empty where it does not say."""

    checkpoint: Path
    """As it was named: a file, or the folder of a run."""
    prior: str | None = None
    """Class of the prior."""
    encoder: str | None = None
    """Tag of the CLIP."""
    training_data: TrainingData | None = None
    step: int | None = None
    parameters: int | None = None
    weights: str | None = None
    """`weights_sha256`"""

    @classmethod
    def by_run(cls, checkpoint: str, report: dict[str, Any]) -> Measured:
        """By a run of ``validate`` or ``test``, whose class of prior may be another: it may sample in another way."""
        return cls(
            Path(checkpoint).expanduser(),
            encoder=within(report, "shards", "space", "encoder"),
            training_data=report.get("training_data"),
            step=report.get("step"),
            parameters=within(report, "prior", "parameters"),
        )

    @classmethod
    def by_benchmark(cls, scores: ScoreRecord) -> Measured:
        told = scores.text_to_image
        return cls(
            Path(str(told.get("prior"))).expanduser(),
            prior=told.get("class"),
            encoder=scores.space,
            training_data=scores.training_data,
            step=scores.step,
            weights=told.get("weights"),
        )

    @property
    def home(self) -> Path:
        """The folder of the run, where it lay."""
        return self.checkpoint.parent.parent if self.checkpoint.suffix == ".ckpt" else self.checkpoint

    @property
    def file(self) -> str:
        """The checkpoint's name in the folder of checkpoints."""
        return self.checkpoint.name if self.checkpoint.suffix == ".ckpt" else "last.ckpt"


@dataclass(frozen=True)
class Origin:
    """Of a measurement."""

    folder: Path | None
    """The run that trained; None where it is not found."""
    stranger: str = ""
    """Why a run that lies where it should lie is not it; empty where it was found, or nothing lies there."""

    @classmethod
    def of_run(cls, folder: Path, config: dict[str, Any], report: dict[str, Any]) -> Origin:
        """Of a run of ``validate`` or ``test``. ``config`` has its dotted keys, and ``report`` is its latent.json."""
        measured = Measured.by_run(str(config["ckpt_path"]), report)
        beside = moved_along(measured.home, folder, config)
        return found_at([*([beside] if beside else []), measured.home, folder.parent / measured.home.name], folder, measured)

    @classmethod
    def of_benchmark(cls, folder: Path, scores: ScoreRecord) -> Origin:
        """Of the folder of a ``benchmark``; hub ids and pipelines have none."""
        if scores.prior_folder is None or scores.is_upper_bound:
            return cls(None)
        measured = Measured.by_benchmark(scores)
        return found_at(list(places(measured.home, folder)), folder, measured)


def moved_along(home: Path, folder: Path, config: dict[str, Any]) -> Path | None:
    """Where the run of ``home`` lies if the tree of runs was copied: from ``folder`` it is as far as it was when it ran.

    None where one of the two paths was absolute, so that it is not known how far that was.
    """
    before = Path(str(config.get("run.folder", "runs"))).expanduser() / str(config.get("run.experiment", "unnamed"))
    if home.is_absolute() != before.is_absolute():
        return None
    return Path(os.path.normpath(folder.parent / os.path.relpath(home, before)))


def resumed_itself(folder: Path, config: dict[str, Any]) -> bool:
    """Whether the run was stopped and resumed from its own checkpoint, wherever it has been copied since."""
    if config.get("ckpt_path") is None:
        return False
    home = Path(str(config["ckpt_path"])).expanduser().parent.parent
    beside = moved_along(home, folder, config)
    if beside is None and not (home / "config.yaml").is_file() and home.parent.name == config.get("run.experiment"):
        beside = folder.parent / home.name
    return folder.resolve() in [place.resolve() for place in (home, beside) if place is not None]


def places(home: Path, folder: Path) -> Iterator[Path]:
    """Where a run may lie that a benchmark in ``folder`` named ``home``: first in the tree that both were copied with."""
    above = folder.absolute().parents
    if home.is_absolute():
        yield home
        yield from (place.joinpath(*home.parts[-2:]) for place in above)
    else:
        yield from (place / home for place in above)
        yield home
    yield folder.parent / home.name


def found_at(places: list[Path], folder: Path, measured: Measured) -> Origin:
    """The first run that has the very weights; else the first that nothing speaks against."""
    possible, strangers = None, ""
    tried: set[Path] = set()
    for place in places:
        candidate = Candidate(place, measured)
        if place.resolve() in {*tried, folder.resolve()} or not candidate.is_training:
            continue
        tried.add(place.resolve())
        same = candidate.has_weights
        why = "it has other weights at that step" if same is False else candidate.contradiction
        if same and not why:
            return Origin(place)
        if why:
            strangers = strangers or f"{place} is another run than the one behind {folder}: {why}."
        else:
            possible = possible or place
    return Origin(possible, "" if possible else strangers)


@dataclass(frozen=True, eq=False)
class Candidate:
    """A folder that may be that of the run which was measured. Each of its files is read once, and where it is asked for."""

    place: Path
    measured: Measured

    @property
    def is_training(self) -> bool:
        return (self.place / "config.yaml").is_file() and self.report.get("command") not in MEASURING

    @cached_property
    def config(self) -> dict[str, Any]:
        return flat(read_config(self.place / "config.yaml"))

    @cached_property
    def report(self) -> dict[str, Any]:
        """latent.json; nothing where it is missing or damaged."""
        report = json_of(self.place / "latent.json")
        return report if isinstance(report, dict) else {}

    @cached_property
    def checkpoint(self) -> dict[str, Any] | None:
        """The checkpoint of the measured name; None where it is gone or cannot be read."""
        try:
            return read_checkpoint(self.place / "checkpoints" / self.measured.file)
        except (ValueError, OSError):
            return None

    @property
    def is_adapter(self) -> bool:
        return str(self.config.get("model.prior.class_path")).endswith(ADAPTER)

    @property
    def contradiction(self) -> str | None:
        """In what the run and the measurement cannot belong together, as far as both record it; in words."""
        measured = self.measured
        kind = self.config.get("model.prior.init_args.prior" if self.is_adapter else "model.prior.class_path")
        facts = {
            "class": (last_word(kind), last_word(measured.prior)),
            "CLIP": (within(self.report, "shards", "space", "encoder"), measured.encoder),
            "number of parameters": (within(self.report, "prior", "parameters"), measured.parameters),
        }
        for what, (theirs, ours) in facts.items():
            if theirs and ours and theirs != ours:
                return f"its {what} is {theirs}, and that of the measured prior is {ours}"
        told = json_of(self.place / TRAINING_DATA_FILE)
        sets, read = digests(told if isinstance(told, list) else []), digests(measured.training_data)
        if sets and read and sets[: len(read)] != read:  # it may have been resumed on more
            return "its training data are others"
        saved = self.checkpoint.get("global_step") if self.checkpoint else None  # last.ckpt may have gone on since
        if saved is not None and measured.step is not None and saved < measured.step:
            return f"its {measured.file} has trained {saved:,} steps, and the measured prior {measured.step:,}"
        return None

    @property
    def has_weights(self) -> bool | None:
        """Whether the run's checkpoint has the measured weights. None where that cannot be known: the measurement has no hash
        of them, the file is gone, or the training continued since.
        """
        measured = self.measured
        if measured.weights is None or self.checkpoint is None:
            return None
        tensors = {name.removeprefix("prior."): one for name, one in self.checkpoint["state_dict"].items()}
        if tensors_sha256(tensors) == measured.weights:
            return True
        # a prior that is adapted, or was trained in half precision, has other tensors once it is loaded
        as_loaded = all(one.dtype == torch.float32 for one in tensors.values() if one.is_floating_point())
        same_step = measured.step is not None and self.checkpoint.get("global_step") == measured.step
        return False if same_step and as_loaded and not self.is_adapter else None


def json_of(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def digests(data: TrainingData | None) -> list[str]:
    return [str(one.get("sha256")) for one in data or [] if isinstance(one, dict)]


def within(tree: Any, *path: str) -> Any:
    """The value at a path of keys; None where there is none."""
    for name in path:
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree


def last_word(name: Any) -> str | None:
    """``EclipsePrior`` of ``eclipse_pl.priors.eclipse.EclipsePrior``, which has a shorter name too."""
    return None if name is None else str(name).rpartition(".")[2]
