"""What the page, the printed tables and the file of numbers are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eclipse_pl.reports.comparison import Comparison
from eclipse_pl.reports.distribution_comparison import DistributionComparison
from eclipse_pl.reports.latent_comparison import LatentComparison
from eclipse_pl.reports.latent_tables import difference_table, distribution_tables, main_table, win_table
from eclipse_pl.reports.metrics import DISTRIBUTION, METRICS, Metric
from eclipse_pl.reports.published import published_tables
from eclipse_pl.reports.score_comparison import ScoreComparison
from eclipse_pl.reports.score_tables import score_tables
from eclipse_pl.reports.tables import Table, markdown


@dataclass(frozen=True, eq=False)
class Report:
    """A comparison, and its parts.

    ``latent`` is of runs with latent tables, ``distribution`` of those among them that were measured with ``latent.samples``,
    and ``scores`` of runs with scorecards.
    """

    comparison: Comparison
    latent: LatentComparison | None
    distribution: DistributionComparison | None
    scores: ScoreComparison | None
    metrics: Sequence[Metric] = METRICS
    """Columns of the latent tables."""
    sampled: Sequence[Metric] = DISTRIBUTION
    """Columns of the tables of distributions."""
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
        sampled: Sequence[Metric] = DISTRIBUTION,
    ) -> Report:
        """See `Comparison.of`."""
        whole = Comparison.of(places, reference, anyway, vary)
        latent, distribution = LatentComparison.part_of(whole), DistributionComparison.part_of(whole)
        return cls(whole, latent, distribution, ScoreComparison.part_of(whole), metrics, sampled, images)

    @property
    def tables(self) -> list[Table]:
        """Scores of images, then latent metrics, then what others published."""
        found = score_tables(self.scores) if self.scores else []
        if self.latent is not None:
            found.append(main_table(self.latent, self.metrics))
            if self.latent.others:
                found += [difference_table(self.latent, self.metrics), win_table(self.latent)]
        if self.distribution is not None:
            found += distribution_tables(self.distribution, self.sampled)
        return found + (published_tables(self.scores) if self.scores else [])

    @property
    def markdown(self) -> str:
        """The tables for a README, each with its note."""
        return "\n\n".join(f"{markdown(table)}\n\n{table.note}" for table in self.tables)

    def _repr_markdown_(self) -> str:
        return self.markdown


def compare(*runs: str | Path, reference: str | None = None, vary: Sequence[str] = (), anyway: bool = False) -> Report:
    """Compare runs and scorecards as the command does; a notebook shows the report as tables.

    ``report.latent`` and ``report.scores`` have the estimates: ``report.latent.difference(variant, metric)``.

    Args:
        *runs: Folders of runs or of `benchmark`, folders above them, or globs.
        reference: The variant, or a part of its name, that the others are compared with. By default the first one.
        vary: Settings under study, such as ``decoder.guidance``: variants are named after them. Decoders may differ in them.
        anyway: Compare and mark what cannot be compared fairly.

    Raises:
        ValueError: There is no such run, or the runs cannot be compared fairly.
    """
    return Report.of([str(run) for run in runs], reference, anyway, vary=vary)
