"""What is told of rows that come in groups, each by the method that is made for it.

Several parts, such as categories of prompts, give the mean over them, each of equal weight; ``n`` counts groups of all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from eclipse_pl.intervals.estimate import Estimate, mean_of_independent
from eclipse_pl.intervals.groups import Groups
from eclipse_pl.intervals.proportions import exact_interval, newcombe_interval
from eclipse_pl.intervals.studentised import LEAST, studentised_interval

RATES = "Clopper and Pearson's exact bound, in Gaffke's form"
OTHERS = f"else a studentised bootstrap, or (too few) where there are fewer than {LEAST}"
SCORES = f"{RATES}, where all scores are 0 or 1, {OTHERS}"
DIFFERENCES = f"Newcombe's for paired proportions where all scores are 0 or 1, {OTHERS}"
"""The methods, as a table's note names them."""


def score_interval(parts: Sequence[Groups]) -> Estimate:
    """Of a mean. Columns: the value."""
    if all(part.outcomes for part in parts):
        return mean_of_independent([exact_interval(part) for part in parts])
    return studentised_interval(parts)


def difference_interval(parts: Sequence[Groups]) -> Estimate:
    """Of the difference of two means. Columns: one's value, and the other's of the same row."""
    if all(part.outcomes for part in parts):
        return mean_of_independent([newcombe_interval(part) for part in parts])
    return studentised_interval([part.difference for part in parts])


def rate_interval(values: Float[np.ndarray, " rows"], groups: Sequence[str] | np.ndarray) -> Estimate:
    """Of a win rate: values between 0 and 1."""
    return exact_interval(Groups.of(values[:, None].astype(float), groups))
