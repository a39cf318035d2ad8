"""Columns of a score table: what a judge says of a category or of several, and distances between distributions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from eclipse_pl.compbench.scorecard import ALL, score_name
from eclipse_pl.intervals import Estimate, mean_of_independent
from eclipse_pl.reports.metric import NOTHING
from eclipse_pl.reports.score_record import ScoreRecord


@dataclass(frozen=True)
class ScoreColumn:
    """A judge's score of a category, or the mean over several, each of equal weight. Higher is better."""

    judge: str
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
        return score_name(self.judge, ALL if self.is_mean else self.categories[0], self.subset)

    def read(self, record: ScoreRecord) -> Estimate:
        """What the scorecard has: its interval is one over prompts."""
        cells = [record.cell(self.judge, category, self.subset) for category in self.categories]
        if not cells or any(cell is None or cell["mean"] is None for cell in cells):
            return NOTHING
        return mean_of_independent([estimate_of(cell) for cell in cells if cell])


@dataclass(frozen=True)
class DistanceColumn:
    """A distance between all pictures and a reference, or what of it is covered (`eclipse_pl.compbench.distribution`)."""

    key: str
    title: str
    better: Literal["higher", "lower"]
    hint: str
    subset: str = ALL

    @property
    def name(self) -> str:
        return f"distribution/{self.key}"

    def read(self, record: ScoreRecord) -> Estimate:
        """Without an interval: one set of pictures gives one distance."""
        value = (record.card.get("distribution") or {}).get(self.key)
        value = value[0] if isinstance(value, list) else value  # KID: mean and deviation over subsets
        return NOTHING if value is None else Estimate(float(value), math.nan, math.nan, 1)


Column = ScoreColumn | DistanceColumn

DISTANCES = (
    DistanceColumn("fid", "FID", "lower", "shrinks as pictures are added: hold equal numbers beside each other only"),
    DistanceColumn("kid", "KID", "lower", "mean over subsets; has no bias, and is the one to take for few pictures"),
    DistanceColumn("precision", "precision", "higher", "part of the pictures inside the reference: quality"),
    DistanceColumn("recall", "recall", "higher", "part of the reference inside the pictures: diversity"),
    DistanceColumn("density", "density", "higher", "as precision; outliers count less; 1 for equal distributions"),
    DistanceColumn("coverage", "coverage", "higher", "part of the reference with a picture near it: diversity"),
)


def estimate_of(cell: dict[str, Any]) -> Estimate:
    """A cell of a scorecard."""
    low, high = (math.nan if cell[name] is None else cell[name] for name in ("low", "high"))
    return Estimate(cell["mean"], low, high, cell["prompts"])
