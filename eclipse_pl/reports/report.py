"""What the page, the printed tables and the file of numbers are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eclipse_pl.reports.comparison import Comparison
from eclipse_pl.reports.latent_comparison import LatentComparison
from eclipse_pl.reports.latent_tables import difference_table, main_table, win_table
from eclipse_pl.reports.metrics import METRICS, Metric
from eclipse_pl.reports.published import published_tables
from eclipse_pl.reports.score_comparison import ScoreComparison
from eclipse_pl.reports.score_tables import score_tables
from eclipse_pl.reports.tables import Table


@dataclass(frozen=True, eq=False)
class Report:
    """A comparison, and its parts: ``latent`` of runs with latent tables, ``scores`` of those with scorecards."""

    comparison: Comparison
    latent: LatentComparison | None
    scores: ScoreComparison | None
    metrics: Sequence[Metric] = METRICS
    """Columns of the latent tables."""
    images: int | None = None
    """Prompts of each category whose images are shown; None for as many as a page shows without being asked."""

    @classmethod
    def of(
        cls,
        places: list[str],
        reference: str | None = None,
        anyway: bool = False,
        metrics: Sequence[Metric] = METRICS,
        images: int | None = None,
        vary: Sequence[str] = (),
    ) -> Report:
        """See `Comparison.of`."""
        whole = Comparison.of(places, reference, anyway, vary)
        return cls(whole, LatentComparison.part_of(whole), ScoreComparison.part_of(whole), metrics, images)

    @property
    def tables(self) -> list[Table]:
        """Scores of images, then latent metrics, then what others published."""
        found = score_tables(self.scores) if self.scores else []
        if self.latent is not None:
            found.append(main_table(self.latent, self.metrics))
            if self.latent.others:
                found += [difference_table(self.latent, self.metrics), win_table(self.latent)]
        return found + (published_tables(self.scores) if self.scores else [])
