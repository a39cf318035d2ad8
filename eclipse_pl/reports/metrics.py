"""The columns of the latent tables, and how each is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from eclipse_pl.data.subset_names import ALL

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
DISTRIBUTION = (
    Metric(
        "energy_score", "lower", "energy_score", "in the units of the space; least for samples of the truth, and not 0 there"
    ),
    Metric("spread", "none", "", "0 for a prior with one prediction; the truth is unknown, except in the world"),
    Metric("best_cosine", "higher", "best_cosine", "rises with random spread too"),
    Metric("mean_cosine", "higher", "mean_cosine", "highest for the mean of a caption's images, which is no sample of them"),
    Metric("sample_norm", "none", "", "neither high nor low is good: see the upper bound"),
    Metric("variance_ratio", "none", "", "1 for samples of the truth, below 1 for means"),
    Metric("frechet", "lower", "", "more pairs lower it"),
    Metric("density", "none", "", "high where predictions crowd in the middle of the images"),
    Metric("coverage", "higher", "", "depends on the number of pairs"),
)
"""The columns of the table of distributions, measured with ``latent.samples``: see `eclipse_pl.latent.distribution`."""
HEADLINE = ("cosine", "centred_cosine", "mse", "text_cosine", "norm", "R@1", "hard_negative")
"""The columns of the latent tables that are shown unless others are asked for."""
BY_NAME = {metric.name: metric for metric in (*METRICS, *DISTRIBUTION)}
PAIR_VALUES = {metric.pair_value: metric for metric in METRICS if metric.pair_value}
"""{column of ``latent_pairs.npz`` by which a pair is won or lost: a metric that is made of it}"""
LOWER_WINS = ("mse", "rank", "energy_score")
