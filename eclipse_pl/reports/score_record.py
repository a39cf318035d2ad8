"""A scorecard and the images behind it, as a folder tells of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from eclipse_pl.compbench.scorecard import AGAIN, ALL, Card, read_card, read_rows
from eclipse_pl.priors.checkpoint import TrainingData
from eclipse_pl.scorers.preference import Rows
from eclipse_pl.text_to_image.upper_bound import TRUE_IMAGE


@dataclass(frozen=True)
class ImageRow:
    """An image and its values, one a scorer; NaN where it could not be scored, and ``failed`` says why."""

    id: str
    category: str
    subset: str
    prompt: str
    seed: int
    file: str
    failed: str | None
    values: dict[str, float]


@dataclass(frozen=True, eq=False)
class ScoreRecord:
    """What a scorecard says. Everything else is read when it is asked for."""

    card: Card
    folder: Path
    """Where ``rows.jsonl`` and the images lie."""

    @classmethod
    def read(cls, folder: Path) -> ScoreRecord | None:
        """Of a run, or of a benchmark's own folder; None where there is no scorecard.

        Raises:
            ValueError: it is damaged, or was written by another version of the program.
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
        """What generated the embeddings; None for a whole pipeline."""
        return self.text_to_image.get("decoder")

    @property
    def space(self) -> str | None:
        """Encoder tag of the CLIP space that the decoder decodes."""
        return (self.text_to_image.get("space") or {}).get("encoder") or self.text_to_image.get("encoder")

    @property
    def training_data(self) -> TrainingData:
        """What the prior was trained on; empty where its text-to-image model does not say so."""
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
        return Path(prior).parent.parent if prior.endswith(".ckpt") else Path(prior)

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

    def cell(self, scorer: str, category: str, subset: str = ALL) -> dict[str, Any] | None:
        """``{mean, low, high, prompts, images, failed}``; None where the scorer did not score that."""
        cell: dict[str, Any] | None = self.card["scores"].get(scorer, {}).get(category, {}).get(subset)
        return cell

    @cached_property
    def rows(self) -> list[ImageRow] | None:
        """One an image, in the benchmark's order; None where they are missing or those of another scorecard."""
        path = self.folder / "rows.jsonl"
        if not path.is_file():
            return None
        try:
            rows = [image_row(row) for row in read_rows(path)]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is damaged ({error!r}). {AGAIN}") from error
        return rows if len(rows) == self.card["images"] else None

    def values(self, scorer: str, category: str, subset: str = ALL) -> Rows | None:
        """Values of a scorer by (prompt id, seed); None where there are no rows."""
        if self.rows is None:
            return None
        return {
            (row.id, row.seed): row.values[scorer]
            for row in self.rows
            if scorer in row.values and row.category == category and subset in (ALL, row.subset)
        }

    def __str__(self) -> str:
        return str(self.folder)


def image_row(row: dict[str, Any]) -> ImageRow:
    values = {scorer: math.nan if said["value"] is None else float(said["value"]) for scorer, said in row["scores"].items()}
    id, category, subset, prompt, file = (str(row[name]) for name in ("id", "category", "subset", "prompt", "file"))
    return ImageRow(id, category, subset, prompt, int(row["seed"]), file, row["failed"], values)
