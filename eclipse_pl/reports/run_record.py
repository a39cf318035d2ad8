"""A run, read from its folder: config, table, values of each pair, learning curves, scorecard."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from eclipse_pl.callbacks.latent import THIS_PRIOR, Rows
from eclipse_pl.callbacks.training_data import TRAINING_DATA_FILE
from eclipse_pl.data.subset_names import ALL, ROWS
from eclipse_pl.dotted_keys import flat
from eclipse_pl.intervals import EXACT, STUDENTISED, Estimate
from eclipse_pl.latent.distribution import MOST_IMAGES, OF_NEIGHBOURHOODS
from eclipse_pl.latent.metrics import COUNTERS
from eclipse_pl.priors.checkpoint import read_config
from eclipse_pl.priors.prior import TrainingData
from eclipse_pl.reports.measurement import Measurement
from eclipse_pl.reports.metrics import BY_NAME, METRICS
from eclipse_pl.reports.origin import MEASURING, Origin, resumed_itself
from eclipse_pl.reports.remedies import finish, measure_again
from eclipse_pl.reports.score_record import ScoreRecord, kind_of_checkpoint
from eclipse_pl.run import read_metrics

SEEDS = ("seed_everything", "data.init_args.seed")
Seeds = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class RunRecord:
    """One run, read from its folder.

    A run of ``validate`` or ``test`` measures the weights of a training run. Its seeds, costs and curves are those of the
    training run. Its prior is its own, and may sample in another way. The folder of a ``benchmark`` stands for what it tested.
    """

    folder: Path
    config: dict[str, Any]
    """Dotted keys, as on the command line, and their values."""
    report: dict[str, Any]
    """latent.json; empty where the run has not finished."""
    training: Path
    """Folder of the run that trained: this one, unless it only measured."""
    resampled: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """Settings of the prior with which it was measured, and others with which it was trained."""
    scores: ScoreRecord | None = None
    """Its images and what scorers give them; None where there is no scorecard."""
    is_benchmark: bool = False
    """True for a folder of ``python -m eclipse_pl benchmark``."""
    tested: RunRecord | None = None
    """Of a benchmark: the run whose prior it tested, where its folder is found."""
    checkpoint: str = "last"
    """Which checkpoint of the training run was measured: its ``last``, its ``best`` or another."""
    stranger: str = ""
    """Why the run that lies where it was trained is another; empty where none does, or it is the right one."""

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        config = flat(read_config(folder / "config.yaml"))
        report = read_json(folder / "latent.json") if (folder / "latent.json").is_file() else {}
        training, resampled, measured, stranger = folder, {}, "last", ""
        checkpoint = config.get("ckpt_path")
        if checkpoint is not None and report.get("command") in MEASURING:
            origin = Origin.of_run(folder, config, report)
            stranger = origin.stranger
            if origin.folder is not None:
                training, measured = origin.folder, kind_of_checkpoint(str(checkpoint))
                trained = flat(read_config(training / "config.yaml"))
                own = {key: value for key, value in config.items() if key.startswith("model.prior.")}
                resampled = {key: (value, trained[key]) for key, value in own.items() if trained.get(key, value) != value}
                config = {key: value for key, value in trained.items() if not key.startswith("model.prior.")} | own
        if resumed_itself(training, config):
            config["ckpt_path"] = None
        scores = ScoreRecord.read(folder)
        return cls(folder, config, report, training, resampled, scores, checkpoint=measured, stranger=stranger)

    @classmethod
    def of_benchmark(cls, folder: Path) -> RunRecord:
        """Config and seeds are those of the run whose prior was tested. They are empty where its folder is not found."""
        scores = ScoreRecord.read(folder)
        origin = Origin.of_benchmark(folder, scores) if scores else Origin(None)
        tested = cls.read(origin.folder) if origin.folder else None
        config, checkpoint = tested.config if tested else {}, scores.checkpoint if scores else "last"
        return cls(folder, config, {}, folder, {}, scores, True, tested, checkpoint, origin.stranger)

    @property
    def has_table(self) -> bool:
        """Whether it was measured in its latent space."""
        return THIS_PRIOR in self.table

    @property
    def scored(self) -> ScoreRecord:
        """Its scores. The caller knows that it has them."""
        assert self.scores is not None
        return self.scores

    @property
    def decoder_settings(self) -> dict[str, Any]:
        """Dotted keys of the decoder of its images, such as ``decoder.guidance``; empty where there is none."""
        decoder = self.scores.decoder if self.scores else None
        return flat(decoder, "decoder") if decoder else {}

    @property
    def has_seeds(self) -> bool:
        """Whether another seed may repeat its training. Pipelines, released priors and the upper bound have none."""
        return bool(self.config)

    @property
    def measures_only(self) -> bool:
        """True for runs of ``validate`` and ``test``."""
        return self.report.get("command") in MEASURING

    @property
    def measurement(self) -> Measurement:
        """How its table was made."""
        return Measurement.of(self.folder, self.report)

    @cached_property
    def training_data(self) -> TrainingData:
        """The sets of shards of its training, one after the other; empty where they are not known."""
        if self.is_benchmark:
            return self.scores.training_data if self.scores else []
        path = self.training / TRAINING_DATA_FILE
        return self.report.get("training_data") or (read_training_data(path) if path.is_file() else [])

    @property
    def seeds(self) -> Seeds:
        return tuple(self.config.get(key) for key in SEEDS)

    @property
    def unfinished(self) -> str | None:
        """Why the table is not that of the run's end; None where it is."""
        if self.is_benchmark:
            return None if self.scores else "has no scorecard.json, because it has not finished"
        if not self.report:
            last = f"its last validation is that of step {self.step}" if self.table else "it has not been validated once"
            return f"has no latent.json, because it has not finished ({last})"
        log = self._logged if self.training == self.folder else []
        trained = self.report.get("trained_steps", self.report["step"])
        if log and int(log[-1]["step"]) >= trained:
            return f"continued to step {int(log[-1]['step']) + 1} after its table was written at step {trained}"
        return None

    @cached_property
    def table(self) -> Rows:
        """{row: {subset: {metric: value}}}, from the last validation where the run has not finished."""
        if self.report:
            table: Rows = self.report["rows"]
        else:
            validated = [row for row in self._logged if row.get("val/cosine")]
            table = rows_of_log(validated[-1]) if validated else {}
        names = [metric.name for metric in METRICS]
        return {
            row: {subset: {name: as_float(metrics.get(name)) for name in names} for subset, metrics in subsets.items()}
            for row, subsets in table.items()
        }

    @property
    def samples(self) -> int | None:
        """Samples a caption whose distribution was measured; None where it was not."""
        samples: int | None = self.fact("distribution", "samples")
        return samples

    @cached_property
    def distribution(self) -> dict[str, dict[str, dict[str, Estimate]]]:
        """{row: {subset: {metric: mean over captions}}} of samples, with 95 % intervals over images. Needs ``samples``."""
        rows = self.fact("distribution", "rows")
        return {
            row: {
                subset: {name: over_images(name, numbers, self._images(subset, name)) for name, numbers in metrics.items()}
                for subset, metrics in subsets.items()
            }
            for row, subsets in rows.items()
        }

    def _images(self, subset: str, metric: str) -> int:
        """Different images behind a metric; 1, which has no interval, where the values of each pair are missing."""
        if self.pairs is None:
            return 1
        taken = (self.pairs["subset"] == subset) | (subset == ALL)
        images = len(np.unique(self.pairs["group"][taken]))
        return min(images, MOST_IMAGES) if metric in OF_NEIGHBOURHOODS else images

    @property
    def step(self) -> int:
        """Training steps behind the table."""
        if self.report:
            return int(self.report["step"])
        return max((int(row["step"]) + 1 for row in self._logged if row.get("val/cosine")), default=0)

    @property
    def measured_step(self) -> int | None:
        """Training steps behind its table, or behind its scores where it is a benchmark; None where they are not known."""
        if self.is_benchmark:
            return self.scores.step if self.scores else None
        return self.step

    @property
    def schedule_steps(self) -> int | None:
        """Length of the learning rate's schedule; None where it has no end, or was not recorded."""
        if self.tested is not None:
            return self.tested.schedule_steps
        return self.fact("schedule_steps")

    def fact(self, *path: str) -> Any:
        """A fact of latent.json; None where it is not there."""
        node: Any = self.report
        for name in path:
            node = node.get(name) if isinstance(node, dict) else None
        return node

    def total(self, name: str) -> float:
        """``samples_seen``, ``train_seconds`` or energy up to the measured step; NaN where it was not logged."""
        trained = self.tested or self
        end = trained.step if self.measured_step is None else self.measured_step
        values = [float(row[name]) for row in trained._logged if row.get(name) and int(row["step"]) < end]
        return values[-1] if values else math.nan

    @property
    def train_kwh(self) -> float:
        """By all counters that could be read; NaN where there is none."""
        known = [value for name in COUNTERS if not math.isnan(value := self.total(name))]
        return math.fsum(known) if known else math.nan

    def curve(self, metric: str, subset: str = ALL) -> dict[int, tuple[float, float, float]]:
        """{step: (samples seen, seconds of training, value)} of every validation."""
        name = f"val/{metric}" if subset == ALL else f"val/{subset}/{metric}"
        return {
            int(row["step"]) + 1: (as_float(row.get("samples_seen")), as_float(row.get("train_seconds")), as_float(row[name]))
            for row in self._logged
            if row.get(name)
        }

    @cached_property
    def pairs(self) -> dict[str, np.ndarray] | None:
        """Values of each pair behind the table; None where they are missing or those of another evaluation."""
        path = self.folder / "latent_pairs.npz"
        if not self.report or not path.is_file():
            return None
        try:
            # opened here, because numpy leaves a file open that turns out to be no zip file
            with open(path, "rb") as content, np.load(content, allow_pickle=False) as file:
                pairs = {name: file[name] for name in file.files}
            step = int(pairs["step"])
        except (ValueError, OSError, KeyError, EOFError, BadZipFile) as error:
            # numpy's own words ask for pickles to be allowed; a file that was cut short is no zip file
            raise ValueError(f"{path} is damaged. {measure_again(self.measurement)}") from error
        return pairs if step == self.step else None

    @cached_property
    def _logged(self) -> list[dict[str, str]]:
        path = self.training / "metrics.csv"
        return read_metrics(path) if path.is_file() else []

    def __str__(self) -> str:
        return str(self.folder)


def over_images(metric: str, numbers: list[float | None], images: int) -> Estimate:
    """An estimate from its [mean, low, high] in latent.json."""
    mean, low, high = (as_float(one) for one in numbers)
    if images < 2 or math.isnan(low):
        return Estimate.without(mean, images)
    return Estimate(mean, low, high, images, EXACT if metric == "coverage" else STUDENTISED)


def rows_of_log(logged: dict[str, str]) -> Rows:
    """The table that one line of metrics.csv holds, that of a validation."""
    rows: Rows = {}
    for name, value in logged.items():
        parts = name.split("/")
        if parts[0] == "val" and parts[-1] in BY_NAME and value:
            where = parts[1] if len(parts) == 3 else ALL
            row, subset = (where, ALL) if where in ROWS else (THIS_PRIOR, where)
            rows.setdefault(row, {}).setdefault(subset, {})[parts[-1]] = float(value)
    return rows


def read_training_data(path: Path) -> TrainingData:
    try:
        content: TrainingData = json.loads(path.read_text(encoding="utf-8"))
        _ = [(one["folder"], one["sha256"], one["pairs"]) for one in content]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged ({error!r}). It names the shards of the training. {finish(path.parent)}"
        ) from error
    return content


def as_float(value: Any) -> float:
    """NaN for what is missing: null in JSON, empty in CSV."""
    return math.nan if value in (None, "") else float(value)


def read_json(path: Path) -> dict[str, Any]:
    """latent.json of a run.

    Raises:
        ValueError: It is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not {"step", "rows"} <= content.keys() or THIS_PRIOR not in content["rows"]:
            raise ValueError("a table has a step and rows")
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}). {measure_again(Measurement.of(path.parent))}") from error
    return content
