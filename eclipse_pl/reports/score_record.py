"""A scorecard and the pictures behind it, as a folder tells of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from eclipse_pl.compbench.scorecard import AGAIN, ALL, Card, read_card, read_rows
from eclipse_pl.painters.ceiling_painter import TRUE_IMAGE
from eclipse_pl.priors.checkpoint import TrainingData
from eclipse_pl.scorers.preference import Rows


@dataclass(frozen=True)
class PictureRow:
    """A picture and its values, one a judge; NaN where it could not be judged, and ``failed`` says why."""

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
    """Where ``rows.jsonl`` and the pictures lie."""

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
    def painter(self) -> dict[str, Any]:
        """The painter's identity."""
        return dict(self.card["painter"])

    @property
    def decoder(self) -> dict[str, Any] | None:
        """What painted the embeddings; None for a whole pipeline."""
        return self.painter.get("decoder")

    @property
    def space(self) -> str | None:
        """Encoder tag of the CLIP space that the decoder paints."""
        return (self.painter.get("space") or {}).get("encoder") or self.painter.get("encoder")

    @property
    def training_data(self) -> TrainingData:
        """What the prior was trained on; empty where its painter does not say so."""
        return list(self.painter.get("training_data", []))

    @property
    def is_ceiling(self) -> bool:
        return self.painter.get("prior") == TRUE_IMAGE

    @property
    def prior_folder(self) -> Path | None:
        """Where the prior was loaded from, if it was not a hub id; it need not be there any more."""
        prior = self.painter.get("prior")
        if not isinstance(prior, str):
            return None
        return Path(prior).parent.parent if prior.endswith(".ckpt") else Path(prior)

    @property
    def name(self) -> str:
        """The painter in short: a hub id, the end of a path, or the ceiling."""
        if self.is_ceiling:
            return f"{TRUE_IMAGE} (ceiling)"
        words = [str(self.prior_folder)] if self.prior_folder else []
        words += [value for value in self.painter.values() if isinstance(value, str)]
        return "/".join(Path(words[0] if words else "painter").parts[-2:])

    @property
    def judges(self) -> list[str]:
        return list(self.card["scores"])

    def cell(self, judge: str, category: str, subset: str = ALL) -> dict[str, Any] | None:
        """``{mean, low, high, prompts, images, failed}``; None where the judge did not judge that."""
        cell: dict[str, Any] | None = self.card["scores"].get(judge, {}).get(category, {}).get(subset)
        return cell

    @cached_property
    def rows(self) -> list[PictureRow] | None:
        """One a picture, in the benchmark's order; None where they are missing or those of another scorecard."""
        path = self.folder / "rows.jsonl"
        if not path.is_file():
            return None
        try:
            rows = [picture_row(row) for row in read_rows(path)]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is damaged ({error!r}). {AGAIN}") from error
        return rows if len(rows) == self.card["images"] else None

    def values(self, judge: str, category: str, subset: str = ALL) -> Rows | None:
        """Values of a judge by (prompt id, seed); None where there are no rows."""
        if self.rows is None:
            return None
        return {
            (row.id, row.seed): row.values[judge]
            for row in self.rows
            if judge in row.values and row.category == category and subset in (ALL, row.subset)
        }

    def __str__(self) -> str:
        return str(self.folder)


def picture_row(row: dict[str, Any]) -> PictureRow:
    values = {judge: math.nan if said["value"] is None else float(said["value"]) for judge, said in row["scores"].items()}
    id, category, subset, prompt, file = (str(row[name]) for name in ("id", "category", "subset", "prompt", "file"))
    return PictureRow(id, category, subset, prompt, int(row["seed"]), file, row["failed"], values)
