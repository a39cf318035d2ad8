"""Columns of a score table: what a scorer gives a category or of several, and distances between distributions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from eclipse_pl.compbench.scorecard import ALL, score_name
from eclipse_pl.intervals import Estimate, Groups, mean_of_independent, score_interval
from eclipse_pl.reports.metric import NOTHING
from eclipse_pl.reports.score_record import ScoreRecord
from eclipse_pl.scorers.preference import Rows


@dataclass(frozen=True)
class ScoreColumn:
    """A scorer's score of a category, or the mean over several, each of equal weight. Higher is better."""

    scorer: str
    categories: tuple[str, ...]
    subset: str = ALL
    is_mean: bool = False
    better: Literal["higher"] = "higher"

    @property
    def title(self) -> str:
        return "mean" if self.is_mean else self.categories[0]

    @property
    def name(self) -> str:
        """As it is logged."""
        return score_name(self.scorer, ALL if self.is_mean else self.categories[0], self.subset)

    def read(self, record: ScoreRecord) -> Estimate:
        """What the scorecard has, its interval over prompts; that of a mean over categories is made from the rows."""
        cells = [record.cell(self.scorer, category, self.subset) for category in self.categories]
        if not cells or any(cell is None or cell["mean"] is None for cell in cells):
            return NOTHING
        together = mean_of_independent([estimate_of(cell) for cell in cells if cell])
        if len(cells) == 1 or record.rows is None:
            return together
        parts = [groups_of(record.values(self.scorer, category, self.subset) or {}) for category in self.categories]
        return score_interval([part for part in parts if part]) if all(parts) else together


@dataclass(frozen=True)
class DistanceColumn:
    """A distance between all images and a reference, or what of it is covered (`eclipse_pl.compbench.distribution`)."""

    key: str
    title: str
    better: Literal["higher", "lower"]
    hint: str
    subset: str = ALL

    @property
    def name(self) -> str:
        return f"distribution/{self.key}"

    def read(self, record: ScoreRecord) -> Estimate:
        """Without an interval: one set of images gives one distance."""
        value = (record.card.get("distribution") or {}).get(self.key)
        value = value[0] if isinstance(value, list) else value  # KID: mean and deviation over subsets
        return NOTHING if value is None else Estimate(float(value), math.nan, math.nan, 1)


Column = ScoreColumn | DistanceColumn

DISTANCES = (
    DistanceColumn("fid", "FID", "lower", "shrinks as images are added: hold equal numbers beside each other only"),
    DistanceColumn("kid", "KID", "lower", "mean over subsets; has no bias, and is the one to take for few images"),
    DistanceColumn("precision", "precision", "higher", "part of the images inside the reference: quality"),
    DistanceColumn("recall", "recall", "higher", "part of the reference inside the images: diversity"),
    DistanceColumn("density", "density", "higher", "as precision; outliers count less; 1 for equal distributions"),
    DistanceColumn("coverage", "coverage", "higher", "part of the reference with an image near it: diversity"),
)


def estimate_of(cell: dict[str, Any]) -> Estimate:
    """A cell of a scorecard."""
    low, high = (math.nan if cell[name] is None else cell[name] for name in ("low", "high"))
    return Estimate(cell["mean"], low, high, cell["prompts"], cell["interval"])


def groups_of(*rows: Rows) -> Groups | None:
    """Values of the same images, one column for each of ``rows``, by prompt; those that could not be scored are left out."""
    kept = [key for key in rows[0] if all(math.isfinite(values[key]) for values in rows)]
    if not kept:
        return None
    values = np.array([[values[key] for values in rows] for key in kept], dtype=np.float64)
    return Groups.of(values, [prompt for prompt, _ in kept])
