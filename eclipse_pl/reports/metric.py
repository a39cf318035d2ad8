from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from eclipse_pl.intervals import Estimate


@dataclass(frozen=True)
class Metric:
    """A column of a latent table, and how it is read. ``column`` names the values of each pair that decide who wins."""

    name: str
    better: Literal["higher", "lower", "none"]
    column: str
    warning: str


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
BY_NAME = {metric.name: metric for metric in METRICS}
WINS = tuple(dict.fromkeys(metric.column for metric in METRICS if metric.column))
"""Columns of ``latent_pairs.npz`` by which a pair is won or lost."""

LOWER_WINS = ("mse", "rank")

NOTHING = Estimate(math.nan, math.nan, math.nan, 0)
"""What cannot be known."""


def decimals_of(estimates: list[Estimate]) -> int:
    """Decimals that show two digits of a typical interval's half-width, or three of a typical value where there is none."""
    halves = sorted(one.high - one.mean for one in estimates if one.high - one.mean > 1e-9 * abs(one.mean))
    sizes = sorted(abs(one.mean) for one in estimates if math.isfinite(one.mean) and one.mean)
    if halves:
        digits = 1 - math.floor(math.log10(halves[len(halves) // 2]))
    elif sizes:
        digits = 2 - math.floor(math.log10(sizes[len(sizes) // 2]))
    else:
        digits = 3
    return min(max(digits, 0), 6)


def number(value: float, decimals: int, sign: bool = False) -> str:
    """Grouped by thousands, with a true minus sign; a dash for what cannot be measured."""
    if math.isnan(value):
        return "–"
    value = round(value, decimals) + 0.0  # without the sign of a zero
    return f"{value:{'+' if sign and value else ''},.{decimals}f}".replace("-", "−")
