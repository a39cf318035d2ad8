"""The scores of a comparison: means over seeds of training, differences and preferences by prompt and seed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from eclipse_pl.compbench.scorecard import ALL
from eclipse_pl.intervals import Estimate, Groups, difference_interval, mean_interval
from eclipse_pl.reports.comparison import Comparison
from eclipse_pl.reports.fairness import Kind
from eclipse_pl.reports.latent_comparison import resolution
from eclipse_pl.reports.metric import NOTHING
from eclipse_pl.reports.run_record import RunRecord
from eclipse_pl.reports.score_column import DISTANCES, Column, ScoreColumn, groups_of
from eclipse_pl.reports.score_record import ScoreRecord
from eclipse_pl.reports.variants import Variant
from eclipse_pl.scorers.preference import Preference, Rows, prefer


@dataclass(frozen=True, eq=False)
class ScoreComparison(Comparison):
    """Variants whose images were scored.

    Where a variant was trained with several seeds, intervals are over these, as everywhere in the house. Where there is one,
    or nothing was trained, they are over prompts: what other prompts of the kind would have given the same weights.
    """

    kind: ClassVar[Kind] = "scores"
    _known: dict[tuple[str, str, Column], Estimate | Preference | None] = field(default_factory=dict)
    """An interval is made once."""

    @classmethod
    def holds(cls, run: RunRecord) -> bool:
        return run.scores is not None

    @property
    def records(self) -> list[ScoreRecord]:
        return [run.scored for run in self.runs]

    @property
    def scorers(self) -> list[str]:
        return unique(scorer for record in self.records for scorer in record.scorers)

    def subsets(self, scorer: str) -> list[str]:
        """ "all" first, then parts of categories."""
        cards = [record.card["scores"].get(scorer, {}) for record in self.records]
        return unique([ALL, *(subset for card in cards for category in card.values() for subset in category)])

    def columns(self, scorer: str, subset: str = ALL) -> list[ScoreColumn]:
        """The categories that have the subset, then the mean over those that everybody was scored in, if there are several."""
        cards = [record.card["scores"].get(scorer, {}) for record in self.records]
        categories = unique(name for card in cards for name, subsets in card.items() if subset in subsets)
        columns = [ScoreColumn(scorer, (category,), subset) for category in categories]
        common = [one for one in columns if all(one.read(record).n for record in self.records)]
        return columns + ([self.mean_of(common)] if len(common) > 1 else [])

    @staticmethod
    def mean_of(columns: list[ScoreColumn]) -> ScoreColumn:
        categories = tuple(column.categories[0] for column in columns)
        return ScoreColumn(columns[0].scorer, categories, columns[0].subset, is_mean=True)

    @property
    def distances(self) -> list[Column]:
        return [column for column in DISTANCES if any(column.read(record).n for record in self.records)]

    @property
    def all_columns(self) -> list[Column]:
        of_scorers = [
            column for scorer in self.scorers for subset in self.subsets(scorer) for column in self.columns(scorer, subset)
        ]
        return [*of_scorers, *self.distances]

    def over_prompts(self, variant: Variant) -> bool:
        """Whether the intervals of a variant are over prompts, because there is one training or none."""
        return len(variant.runs) == 1

    def value(self, run: RunRecord, column: Column) -> float:
        return column.read(run.scored).mean

    def estimate(self, variant: Variant, column: Column) -> Estimate:
        """Mean over seeds of training; for a single one over prompts."""
        if len(variant.runs) > 1:
            return over_seeds([self.value(run, column) for run in variant.runs.values()])
        key = ("estimate", variant.name, column)
        if key not in self._known:
            self._known[key] = column.read(variant.first.scored)
        known = self._known[key]
        assert isinstance(known, Estimate)
        return known

    def difference(self, variant: Variant, column: Column) -> Estimate:
        """The variant less the reference, by paired seeds of training; for a single pair by the same prompts and seeds."""
        pairs = self.pairs(variant)
        if not pairs:
            return NOTHING
        if len(pairs) > 1 or not isinstance(column, ScoreColumn):
            return over_seeds([self.value(ours, column) - self.value(theirs, column) for ours, theirs in pairs])
        key = ("difference", variant.name, column)
        if key not in self._known:
            self._known[key] = difference_of(pairs[0][0].scored, pairs[0][1].scored, column)
        known = self._known[key]
        assert isinstance(known, Estimate)
        return known

    def preference(self, variant: Variant, column: Column) -> Preference | None:
        """How often an image has a higher value than the reference's of the same prompt and seed; None where not known.

        Seeds of training are repetitions: each image is held against that of the paired training, and the interval is over
        prompts, each with all its images.
        """
        if not isinstance(column, ScoreColumn):
            return None
        key = ("preference", variant.name, column)
        if key not in self._known:
            self._known[key] = preference_of(self.pairs(variant), column)
        known = self._known[key]
        assert known is None or isinstance(known, Preference)
        return known


def over_seeds(values: list[float]) -> Estimate:
    estimate = mean_interval(values, resolution(values))
    return NOTHING if np.isnan(estimate.mean) else estimate


def difference_of(ours: ScoreRecord, theirs: ScoreRecord, column: ScoreColumn) -> Estimate:
    """Interval over prompts of the differences between images of the same prompt and seed; none where rows are missing."""
    parts: list[Groups] = []
    for category in column.categories:
        rows = paired_rows(ours, theirs, column.scorer, category, column.subset)
        if rows is None:
            one, other = column.read(ours), column.read(theirs)
            return Estimate.without(one.mean - other.mean, min(one.n, other.n))
        part = groups_of(*rows)
        if part is None:
            return NOTHING
        parts.append(part)
    return difference_interval(parts)


def preference_of(pairs: list[tuple[RunRecord, RunRecord]], column: ScoreColumn) -> Preference | None:
    a: dict[tuple[str, int], float] = {}
    b: dict[tuple[str, int], float] = {}
    numbers: dict[tuple[int, int], int] = {}
    for training, (ours, theirs) in enumerate(pairs):
        for category in column.categories:
            rows = paired_rows(ours.scored, theirs.scored, column.scorer, category, column.subset)
            if rows is None:
                return None
            for pooled, values in zip((a, b), rows, strict=True):
                for (prompt, seed), value in values.items():
                    pooled[prompt, numbers.setdefault((training, seed), len(numbers))] = value
    if not any(np.isfinite(a[key] - b[key]) for key in a):
        return None
    return prefer(a, b)


def paired_rows(ours: ScoreRecord, theirs: ScoreRecord, scorer: str, category: str, subset: str) -> tuple[Rows, Rows] | None:
    """Values of the same images of both; None where they are not of the same prompts and seeds, or rows are missing."""
    a, b = ours.values(scorer, category, subset), theirs.values(scorer, category, subset)
    if not a or not b or a.keys() != b.keys() or ours.card["prompts"]["sha256"] != theirs.card["prompts"]["sha256"]:
        return None
    return a, b


def unique(names: Iterable[str]) -> list[str]:
    """In the order in which they first occur."""
    return list(dict.fromkeys(names))
