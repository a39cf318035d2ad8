"""A scorecard and the images behind it, read from a folder."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from eclipse_pl.compbench.scorecard import AGAIN, ALL, Card, read_card, read_rows
from eclipse_pl.priors.prior import TrainingData
from eclipse_pl.scorers.preference import ScoreValues
from eclipse_pl.text_to_image.upper_bound import TRUE_IMAGE

STEP = re.compile(r"step=(\d+)")
NUMBERS = re.compile(r"-?\b(?:epoch|step)=\d+")
"""In the names that Lightning gives to checkpoints."""


@dataclass(frozen=True)
class ScoredImage:
    """An image and a value of each scorer: NaN where it could not be scored, and ``failed`` is the reason."""

    id: str
    category: str
    subset: str
    prompt: str
    seed: int
    file: str
    failed: str | None
    values: dict[str, float]
    evidence: dict[str, dict[str, Any]] = field(default_factory=dict)
    """{scorer: what its value was made of}, as the scorer wrote it."""


@dataclass(frozen=True, eq=False)
class ScoreRecord:
    """A scorecard. The images' scores are read when they are asked for."""

    card: Card
    folder: Path
    """Where ``rows.jsonl`` and the images lie."""

    @classmethod
    def read(cls, folder: Path) -> ScoreRecord | None:
        """Of a run, or of a benchmark's own folder; None where there is no scorecard.

        Raises:
            ValueError: The scorecard is damaged, or another version of the program wrote it.
        """
        path = folder / "scorecard.json"
        if not path.is_file():
            return None
        card = read_card(path)
        return cls(card, folder / "benchmark" / f"step_{card['step']:07d}" if "step" in card else folder)

    @property
    def text_to_image(self) -> dict[str, Any]:
        """The text-to-image model's identity."""
        return dict(self.card["text_to_image"])

    @property
    def decoder(self) -> dict[str, Any] | None:
        """What turned embeddings into images; None for a whole pipeline."""
        return self.text_to_image.get("decoder")

    @property
    def space(self) -> str | None:
        """Encoder tag of the CLIP space that the decoder decodes."""
        return (self.text_to_image.get("space") or {}).get("encoder") or self.text_to_image.get("encoder")

    @property
    def training_data(self) -> TrainingData:
        """The shards of the prior's training; empty where its text-to-image model does not record them."""
        return list(self.text_to_image.get("training_data", []))

    @property
    def is_upper_bound(self) -> bool:
        return self.text_to_image.get("prior") == TRUE_IMAGE

    @property
    def prior_folder(self) -> Path | None:
        """Where the prior was loaded from, if it was not a hub id; it need not be there any more."""
        prior = self.text_to_image.get("prior")
        if not isinstance(prior, str):
            return None
        path = Path(prior).expanduser()  # as `find_checkpoint` takes it
        return path.parent.parent if path.suffix == ".ckpt" else path

    @property
    def checkpoint(self) -> str:
        """Which checkpoint of a run the prior was loaded from; see `kind_of_checkpoint`."""
        return kind_of_checkpoint(str(self.text_to_image.get("prior")))

    @property
    def step(self) -> int | None:
        """Training steps behind the prior's weights; None where neither scorecard nor file name states them."""
        stated: int | None = self.card.get("step", self.card.get("trained_steps"))
        named = STEP.search(Path(str(self.text_to_image.get("prior"))).name)
        return int(named[1]) if stated is None and named else stated

    @property
    def name(self) -> str:
        """The text-to-image model in short: a hub id, the end of a path, or the upper bound."""
        if self.is_upper_bound:
            return f"{TRUE_IMAGE} (upper bound)"
        words = [str(self.prior_folder)] if self.prior_folder else []
        words += [value for value in self.text_to_image.values() if isinstance(value, str)]
        return "/".join(Path(words[0] if words else "text_to_image").parts[-2:])

    @property
    def scorers(self) -> list[str]:
        return list(self.card["scores"])

    def score(self, scorer: str, category: str, subset: str = ALL) -> dict[str, Any] | None:
        """``{mean, low, high, prompts, images, failed}``; None where the scorer did not score that."""
        score: dict[str, Any] | None = self.card["scores"].get(scorer, {}).get(category, {}).get(subset)
        return score

    @cached_property
    def images(self) -> list[ScoredImage] | None:
        """In the benchmark's order; None where ``rows.jsonl`` is missing or belongs to another scorecard."""
        path = self.folder / "rows.jsonl"
        if not path.is_file():
            return None
        try:
            images = [scored_image(row) for row in read_rows(path)]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is damaged ({error!r}). {AGAIN}") from error
        return images if len(images) == self.card["images"] else None

    def values(self, scorer: str, category: str, subset: str = ALL) -> ScoreValues | None:
        """Values of a scorer by (prompt id, seed); None where the images' scores are missing."""
        if self.images is None:
            return None
        return {
            (image.id, image.seed): image.values[scorer]
            for image in self.images
            if scorer in image.values and image.category == category and subset in (ALL, image.subset)
        }

    def __str__(self) -> str:
        return str(self.folder)


def kind_of_checkpoint(path: str) -> str:
    """``best`` for ``runs/a/version_0/checkpoints/best-step=500.ckpt``. The folder of a run stands for its ``last``."""
    return (NUMBERS.sub("", Path(path).stem) or "numbered") if path.endswith(".ckpt") else "last"


def scored_image(row: dict[str, Any]) -> ScoredImage:
    values = {name: math.nan if score["value"] is None else float(score["value"]) for name, score in row["scores"].items()}
    evidence = {name: dict(score.get("evidence") or {}) for name, score in row["scores"].items()}
    id, category, subset, prompt, file = (str(row[name]) for name in ("id", "category", "subset", "prompt", "file"))
    return ScoredImage(id, category, subset, prompt, int(row["seed"]), file, row["failed"], values, evidence)
