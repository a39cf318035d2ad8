"""What the page, the tables and the file of numbers are made from."""

from __future__ import annotations

from dataclasses import dataclass

from eclipse_pl.reports.comparison import Comparison
from eclipse_pl.reports.latent_comparison import LatentComparison
from eclipse_pl.reports.metric import METRICS, Metric
from eclipse_pl.reports.score_comparison import ScoreComparison

IMAGES = 3


@dataclass(frozen=True, eq=False)
class Report:
    """A comparison, and its parts: ``latent`` of runs with latent tables, ``scores`` of those with scorecards."""

    comparison: Comparison
    latent: LatentComparison | None
    scores: ScoreComparison | None
    metrics: tuple[Metric, ...] = METRICS
    """Columns of the latent tables."""
    images: int = IMAGES
    """Prompts of each category whose images are shown."""

    @classmethod
    def of(
        cls,
        places: list[str],
        reference: str | None = None,
        anyway: bool = False,
        metrics: tuple[Metric, ...] = METRICS,
        images: int = IMAGES,
    ) -> Report:
        """See `Comparison.of`."""
        whole = Comparison.of(places, reference, anyway)
        return cls(whole, LatentComparison.part_of(whole), ScoreComparison.part_of(whole), metrics, images)
