"""The scores of a comparison: means over seeds of training, differences and preferences by prompt and seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import numpy as np

from eclipse_pl.compbench.scorecard import ALL, score_name
from eclipse_pl.intervals import NOTHING, Estimate, Groups, difference_interval, mean_of_independent, score_interval
from eclipse_pl.reports.comparison import Comparison
from eclipse_pl.reports.fairness import Kind
from eclipse_pl.reports.latent_comparison import over_seeds
from eclipse_pl.reports.metrics import Better
from eclipse_pl.reports.run_record import RunRecord
from eclipse_pl.reports.score_record import ScoreRecord
from eclipse_pl.reports.variants import Variant
from eclipse_pl.scorers.diversity import NEITHER_WAY_IS_BETTER
from eclipse_pl.scorers.preference import Preference, ScoreValues, prefer


@dataclass(frozen=True)
class ScoreColumn:
    """A scorer's score of a category, or the mean over several, each of equal weight."""

    scorer: str
    categories: tuple[str, ...]
    subset: str = ALL
    is_mean: bool = False

    @property
    def better(self) -> Better:
        return "none" if self.scorer.partition("[")[0] in NEITHER_WAY_IS_BETTER else "higher"

    @property
    def title(self) -> str:
        return "mean" if self.is_mean else self.categories[0]

    @property
    def label(self) -> str:
        """Of an axis."""
        return self.name.removeprefix("benchmark/")

    @property
    def name(self) -> str:
        """As it is logged."""
        return score_name(self.scorer, ALL if self.is_mean else self.categories[0], self.subset)

    def read(self, record: ScoreRecord) -> Estimate:
        """The scorecard's score, with its interval over prompts. A mean over categories needs the images' scores for it."""
        scores = [record.score(self.scorer, category, self.subset) for category in self.categories]
        if not scores or any(score is None or score["mean"] is None for score in scores):
            return NOTHING
        together = mean_of_independent([estimate_of(score) for score in scores if score])
        if len(scores) == 1 or record.images is None:
            return together
        parts = [groups_of(record.values(self.scorer, category, self.subset) or {}) for category in self.categories]
        return score_interval([part for part in parts if part]) if all(parts) else together


@dataclass(frozen=True)
class DistanceColumn:
    """A distance between all images and a reference, or what of it is covered (`eclipse_pl.compbench.distances`)."""

    key: str
    title: str
    better: Better
    hint: str
    subset: str = ALL

    @property
    def name(self) -> str:
        return f"distribution/{self.key}"

    @property
    def label(self) -> str:
        return self.name

    def read(self, record: ScoreRecord) -> Estimate:
        """Without an interval: one set of images gives one distance."""
        value = (record.card.get("distribution") or {}).get(self.key)
        value = value[0] if isinstance(value, list) else value  # KID: mean and deviation over subsets
        return NOTHING if value is None else Estimate(float(value), math.nan, math.nan, 1)


Column = ScoreColumn | DistanceColumn

DISTANCES = (
    DistanceColumn("fid", "FID", "lower", "shrinks as images are added: compare equal numbers of images only"),
    DistanceColumn("kid", "KID", "lower", "mean over subsets; has no bias: use it for few images"),
    DistanceColumn("cmmd", "CMMD", "lower", "as FID"),
    DistanceColumn("fd_dinov2", "FD-DINOv2", "lower", "as FID; at least 10,000 images are usual"),
    DistanceColumn("precision", "precision", "higher", "part of the images inside the reference: quality"),
    DistanceColumn("recall", "recall", "higher", "part of the reference inside the images: diversity"),
    DistanceColumn("density", "density", "higher", "as precision; outliers count less; 1 for equal distributions"),
    DistanceColumn("coverage", "coverage", "higher", "part of the reference with an image near it: diversity"),
)


def estimate_of(score: dict[str, Any]) -> Estimate:
    low, high = (math.nan if score[name] is None else score[name] for name in ("low", "high"))
    return Estimate(score["mean"], low, high, score["prompts"], score["interval"])


def groups_of(*sides: ScoreValues) -> Groups | None:
    """Values of the same images, a column for each side, by prompt; images that could not be scored are left out."""
    kept = [key for key in sides[0] if all(math.isfinite(values[key]) for values in sides)]
    if not kept:
        return None
    values = np.array([[values[key] for values in sides] for key in kept], dtype=np.float64)
    return Groups.of(values, [prompt for prompt, _ in kept])


Made = TypeVar("Made")


@dataclass(frozen=True, eq=False)
class ScoreComparison(Comparison):
    """Variants whose images were scored.

    Where a variant was trained with several seeds, intervals are over these. Where there is one training, or none, they are
    over prompts: what other prompts of the kind would have given the same weights.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("scores",)
    _known: dict[tuple[str, str, Column], Any] = field(default_factory=dict)
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
        """The mean over the categories that every record has a score of, if there are several; then the categories."""
        cards = [record.card["scores"].get(scorer, {}) for record in self.records]
        categories = unique(name for card in cards for name, subsets in card.items() if subset in subsets)
        columns = [ScoreColumn(scorer, (category,), subset) for category in categories]
        common = [one for one in columns if all(one.read(record).n for record in self.records)]
        mean = ScoreColumn(scorer, tuple(column.title for column in common), subset, is_mean=True)
        return [mean, *columns] if len(common) > 1 else columns

    @property
    def distances(self) -> list[Column]:
        return [column for column in DISTANCES if any(column.read(record).n for record in self.records)]

    @property
    def all_columns(self) -> list[Column]:
        pairs = [(scorer, subset) for scorer in self.scorers for subset in self.subsets(scorer)]
        return [*(column for pair in pairs for column in self.columns(*pair)), *self.distances]

    def values(self, variant: Variant, column: Column) -> list[float]:
        return [column.read(run.scored).mean for run in variant.runs.values()]

    def estimate(self, variant: Variant, column: Column) -> Estimate:
        """Mean over seeds of training; for a single one over prompts."""
        if len(variant.runs) > 1:
            return known(over_seeds(self.values(variant, column)))
        return self._once("estimate", variant, column, lambda: column.read(variant.first.scored))

    def difference(self, variant: Variant, column: Column) -> Estimate:
        """The variant minus the reference, by paired seeds of training; for a single pair by the same prompts and seeds."""
        pairs = [(ours.scored, theirs.scored) for ours, theirs in self.pairs(variant)]
        if not pairs:
            return NOTHING
        if len(pairs) > 1 or not isinstance(column, ScoreColumn):
            return known(over_seeds([column.read(ours).mean - column.read(theirs).mean for ours, theirs in pairs]))
        return self._once("difference", variant, column, lambda: difference_of(*pairs[0], column))

    def over(self, variant: Variant, column: Column) -> str:
        return "seeds" if len(variant.runs) > 1 or not isinstance(column, ScoreColumn) else "prompts"

    def difference_over(self, variant: Variant, column: Column) -> str:
        return "seeds" if len(self.pairs(variant)) > 1 or not isinstance(column, ScoreColumn) else "prompts"

    def preference(self, variant: Variant, column: Column) -> Preference | None:
        """How often an image has a higher value than the reference's of the same prompt and seed.

        None where it is not known, and where neither high nor low is better.

        Seeds of training are repetitions: each image is compared with that of the paired training, and the interval is over
        prompts, each with all its images.
        """
        if not isinstance(column, ScoreColumn) or column.better == "none":
            return None
        return self._once("preference", variant, column, lambda: preference_of(self.pairs(variant), column))

    def win_rate(self, variant: Variant, column: Column) -> Estimate:
        preference = self.preference(variant, column)
        return preference.win_rate if preference else NOTHING

    def _once(self, what: str, variant: Variant, column: Column, make: Callable[[], Made]) -> Made:
        key = (what, variant.name, column)
        if key not in self._known:
            self._known[key] = make()
        made: Made = self._known[key]
        return made


def known(estimate: Estimate) -> Estimate:
    return NOTHING if math.isnan(estimate.mean) else estimate


def difference_of(ours: ScoreRecord, theirs: ScoreRecord, column: ScoreColumn) -> Estimate:
    """Interval over prompts of differences between images of the same prompt and seed; none where their scores are missing."""
    parts: list[Groups] = []
    for category in column.categories:
        sides = paired_values(ours, theirs, column.scorer, category, column.subset)
        if sides is None:
            one, other = column.read(ours), column.read(theirs)
            return Estimate.without(one.mean - other.mean, min(one.n, other.n))
        part = groups_of(*sides)
        if part is None:
            return NOTHING
        parts.append(part)
    return difference_interval(parts)


def preference_of(pairs: list[tuple[RunRecord, RunRecord]], column: ScoreColumn) -> Preference | None:
    pooled = pooled_values(pairs, column)
    return prefer(*pooled) if pooled else None


def pooled_values(pairs: list[tuple[RunRecord, RunRecord]], column: ScoreColumn) -> tuple[ScoreValues, ScoreValues] | None:
    """Values of the same images of all pairs, images of several trainings apart; None where no image can be compared."""
    a: dict[tuple[str, int], float] = {}
    b: dict[tuple[str, int], float] = {}
    numbers: dict[tuple[int, int], int] = {}
    for training, (ours, theirs) in enumerate(pairs):
        for category in column.categories:
            sides = paired_values(ours.scored, theirs.scored, column.scorer, category, column.subset)
            if sides is None:
                return None
            for pooled, values in zip((a, b), sides, strict=True):
                for (prompt, seed), value in values.items():
                    pooled[prompt, numbers.setdefault((training, seed), len(numbers))] = value
    return (a, b) if any(np.isfinite(a[key] - b[key]) for key in a) else None


def paired_values(
    ours: ScoreRecord, theirs: ScoreRecord, scorer: str, category: str, subset: str
) -> tuple[ScoreValues, ScoreValues] | None:
    """Values of the same images of both; None where prompts or seeds differ, or images' scores are missing."""
    a, b = ours.values(scorer, category, subset), theirs.values(scorer, category, subset)
    if not a or not b or a.keys() != b.keys() or ours.card["prompts"]["sha256"] != theirs.card["prompts"]["sha256"]:
        return None
    return a, b


def unique(names: Iterable[str]) -> list[str]:
    """In the order in which they first occur."""
    return list(dict.fromkeys(names))
