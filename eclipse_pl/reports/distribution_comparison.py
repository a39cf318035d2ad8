"""The metrics of samples in a comparison: means over seeds, differences by paired seeds, intervals over images of one run."""

from __future__ import annotations

from typing import ClassVar

from eclipse_pl.callbacks.latent import THIS_PRIOR, Rows
from eclipse_pl.intervals import Estimate
from eclipse_pl.reports.fairness import Kind
from eclipse_pl.reports.latent_comparison import LatentComparison
from eclipse_pl.reports.metrics import DISTRIBUTION, Metric
from eclipse_pl.reports.run_record import RunRecord
from eclipse_pl.reports.variants import Variant


class DistributionComparison(LatentComparison):
    """Variants that were measured with ``latent.samples``."""

    kinds: ClassVar[tuple[Kind, ...]] = ("latent", "distribution")
    metrics: ClassVar[tuple[Metric, ...]] = DISTRIBUTION

    @classmethod
    def holds(cls, run: RunRecord) -> bool:
        return run.samples is not None

    @staticmethod
    def table_of(run: RunRecord) -> Rows:
        return {
            row: {subset: {name: one.mean for name, one in found.items()} for subset, found in subsets.items()}
            for row, subsets in run.distribution.items()
        }

    @property
    def samples(self) -> list[int]:
        """The numbers of samples a caption. There is more than one only where the comparison was made anyway."""
        return sorted({run.samples for run in self.runs if run.samples is not None})

    def estimate(self, variant: Variant, column: Metric) -> Estimate:
        """Mean over seeds of training. Of a single training it is the mean over captions, with its interval over images."""
        if len(variant.runs) > 1:
            return super().estimate(variant, column)
        return variant.first.distribution[THIS_PRIOR][column.subset][column.name]

    def over(self, variant: Variant, column: Metric) -> str:
        return "seeds" if len(variant.runs) > 1 else "images"
