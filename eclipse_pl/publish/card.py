"""The model card of a prior, made from the run's own files."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from eclipse_pl import __version__
from eclipse_pl.latent.metrics import COUNTERS
from eclipse_pl.loading import DECODERS, is_local_clip
from eclipse_pl.model_folder import HUB_ID
from eclipse_pl.priors.checkpoint import read_config
from eclipse_pl.reports.caveats.caveats import caveats
from eclipse_pl.reports.fairness import continue_with
from eclipse_pl.reports.report import Report
from eclipse_pl.reports.run_record import RunRecord
from eclipse_pl.reports.tables import MARK, markdown

TEMPLATE = Path(__file__).parent / "model_card.md"
RECIPE = (
    "seed_everything",
    "trainer.max_steps",
    "trainer.precision",
    "trainer.accumulate_grad_batches",
    "trainer.gradient_clip_val",
    "trainer.devices",
    "trainer.num_nodes",
    "data.init_args.batch_size",
    "model.optimizer",
    "model.scheduler",
    "average",
)
"""Keys of the config that a reader asks for first; the whole config lies beside the card."""
PIPELINES = {"EclipsePriorPipeline": "eclipse_pl.pipeline", "KandinskyV22PriorPipeline": "diffusers"}
"""Pipelines from a caption to image embeddings, and where they are imported from."""
METERED = dict(zip(("GPUs", "processors and memory"), COUNTERS, strict=True))
"""Words for the counters of energy."""
LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")


@dataclass(frozen=True, eq=False)
class ModelCard:
    """What README.md of a published prior says.

    Raises:
        ValueError: The run has not finished, or continued after its table was written; a file of it is damaged; or the licence
            is no name of the hub's.
    """

    run: RunRecord
    report: Report
    license: str
    data_license: str | None
    name: str
    """As which others load it."""

    @classmethod
    def of(cls, prior: str, license: str, data_license: str | None, beside: Sequence[str], name: str) -> ModelCard:
        folder = Path(prior)
        if not LICENSE.fullmatch(license):
            raise ValueError(f"--license {license} is no name of the hub's. Write one as mit, apache-2.0, cc-by-4.0 or other.")
        if not (folder / "config.yaml").is_file():
            raise ValueError(f"{prior} is no folder of a run. A model card is made from a run's files; `export` needs none.")
        run = RunRecord.read(folder)
        if run.unfinished:  # its last weights would be published with the table of others
            raise ValueError(f"{prior} {run.unfinished}. {continue_with(run)}")
        return cls(run, Report.of([prior, *beside], anyway=True), license, data_license, name)

    @property
    def title(self) -> str:
        return f"{self.class_name} of {self.space['name']}"

    @property
    def class_name(self) -> str:
        return str(self.run.fact("prior", "class")).rpartition(".")[2]

    @property
    def space(self) -> dict[str, Any]:
        return dict(self.run.fact("shards", "space"))

    @property
    def front_matter(self) -> dict[str, Any]:
        """The fields that the hub documents for a model card."""
        return {
            "license": self.license,
            "library_name": "diffusers",
            "pipeline_tag": "text-to-image",
            "tags": ["eclipse_pl", "text-to-image-prior", "unclip", f"clip-{self.space['name'].replace('/', '-')}".lower()],
            "metrics": ["cosine similarity"],
            **({"base_model": self.base_model, "base_model_relation": "finetune"} if self.base_model else {}),
        }

    @property
    def base_model(self) -> str | None:
        """The repository of the hub whose weights the training began with, or adapted; None where there is none."""
        named = (str(self.run.config.get(f"model.prior.init_args.{key}")) for key in ("weights", "prior_args.weights"))
        return next((one.partition("@")[0] for one in named if HUB_ID.fullmatch(one) and not Path(one).parent.is_dir()), None)

    @property
    def problems(self) -> list[str]:
        """Why rows are marked, for a reader of the card. The remedies are for the publisher; paths are as `without_home`."""
        found = [problem.for_readers for problem in self.report.comparison.problems]
        runs = self.report.comparison.runs
        places = {str(place) for run in runs for place in (run.folder, run.fact("shards", "folder")) if place}
        for place in sorted(places, key=len, reverse=True):  # one may begin with another
            found = [sentence.replace(place, without_home(place)) for sentence in found]
        return found

    def text(self, pipeline: str | None) -> str:
        """README.md; ``pipeline`` is that of diffusers which the export is, or None where it is a network alone."""
        from jinja2 import Environment, StrictUndefined

        environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
        front = yaml.safe_dump(self.front_matter, sort_keys=False)
        start = "model.prior.init_args."
        config = self.run.config
        return f"---\n{front}---\n\n" + environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
            card=self,
            facts=self.run.report,
            recipe={key: readable(config, key) for key in RECIPE if readable(config, key) is not None},
            prior={
                key.removeprefix(start): without_home(value)
                for key, value in config.items()
                if key.startswith(start) and value is not None
            },
            tables=[(table.title, markdown(table), table.note) for table in self.report.tables],
            mark=MARK,
            problems=self.problems,
            caveats=caveats(self.report),
            seconds=self.run.total("train_seconds"),
            energy={part: kwh for part, name in METERED.items() if not math.isnan(kwh := self.run.total(name))},
            samples=self.run.total("samples_seen"),
            scorecards=self.report.scores is not None,
            name=self.name,
            pipeline=pipeline,
            module=PIPELINES.get(pipeline or ""),
            local_clip=is_local_clip(self.space["encoder"]),
            decoder=None if is_local_clip(self.space["encoder"]) else DECODERS.get(self.space["name"]),
            images=self.samples is not None,
            versions={"eclipse_pl": __version__, **{name: version(name) for name in ("torch", "lightning", "diffusers")}},
        )

    @property
    def samples(self) -> Path | None:
        """The run's last grid of sample images."""
        return max((self.run.folder / "samples").glob("*.png"), key=lambda path: path.stat().st_mtime, default=None)

    def write(self, folder: Path) -> None:
        """README.md, the run's config, and its images into the folder of an export."""
        (folder / "README.md").write_text(self.text(pipeline_of(folder)), encoding="utf-8")
        config = read_config(self.run.training / "config.yaml")
        (folder / "training_config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        if self.samples is not None:
            shutil.copyfile(self.samples, folder / "samples.png")


def pipeline_of(folder: Path) -> str | None:
    """The pipeline that an export is; None where it is a network alone, or a pipeline that diffusers no longer loads."""
    index = folder / "model_index.json"
    name = json.loads(index.read_text(encoding="utf-8"))["_class_name"] if index.is_file() else None
    return name if name in PIPELINES else None


def without_home(value: Any) -> Any:
    """A path of the publisher's machine by its last two words, as RUN and VERSION; any other value as it is."""
    absolute = isinstance(value, str) and Path(value).expanduser().is_absolute()
    return "/".join(Path(value).parts[-2:]) if absolute else value


def readable(config: dict[str, Any], key: str) -> Any:
    """A value of the config; a class with its arguments in one line; None where it is not set."""
    if key in config:
        return config[key]
    path = config.get(f"{key}.class_path")
    if path is None:
        return None
    start = f"{key}.init_args."
    arguments = {
        name.removeprefix(start): value for name, value in config.items() if name.startswith(start) and value is not None
    }
    return f"{path.rpartition('.')[2]}({', '.join(f'{name}={value}' for name, value in arguments.items())})"
