"""The columns of a latent table, and how each is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from eclipse_pl.latent.metrics import ALL

Better = Literal["higher", "lower", "none"]


@dataclass(frozen=True)
class Metric:
    """``pair_value`` names the values of each pair that decide which side wins; empty where none do."""

    name: str
    better: Better
    pair_value: str
    warning: str
    subset: str = ALL

    @property
    def label(self) -> str:
        """Of an axis."""
        return self.name if self.subset == ALL else f"{self.name}, {self.subset} pairs"

    def of(self, subset: str) -> Metric:
        """The metric of a part of the pairs."""
        return replace(self, subset=subset)


METRICS = (
    Metric("cosine", "higher", "cosine", "high already for a constant: the mean image embedding"),
    Metric("centred_cosine", "higher", "centred_cosine", "depends on how varied the images of a data set are"),
    Metric("mse", "lower", "mse", "depends on the scale of the space; mean over dimensions"),
    Metric("text_cosine", "none", "", "neither high nor low is good: see the upper bound"),
    Metric("norm", "none", "", "neither high nor low is good: see the upper bound"),
    Metric("R@1", "higher", "rank", "the text embedding is strong here, because CLIP was trained for it"),
    Metric("R@5", "higher", "rank", "as R@1"),
    Metric("R@10", "higher", "rank", "as R@1"),
    Metric("hard_negative", "higher", "hard_negative", "asks for binding only; chance is 0.5"),
)
HEADLINE = ("cosine", "centred_cosine", "mse", "text_cosine", "norm", "R@1", "hard_negative")
"""The columns that are shown unless others are asked for."""
BY_NAME = {metric.name: metric for metric in METRICS}
PAIR_VALUES = {metric.pair_value: metric for metric in METRICS if metric.pair_value}
"""{column of ``latent_pairs.npz`` by which a pair is won or lost: a metric that is made of it}"""
LOWER_WINS = ("mse", "rank")
