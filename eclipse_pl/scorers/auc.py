"""How well scores tell two kinds of images apart: the area under the ROC curve (AUC)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from eclipse_pl.intervals import Estimate, Groups, rate_interval, studentised_interval


def auc(high: Float[np.ndarray, " images"], low: Float[np.ndarray, " images"]) -> Estimate:
    """Return the probability that a score of ``high`` is above a score of ``low``, where a tie counts half.

    Both are of the same images, so an image's two scores are resampled together. The value is the mean over images of what
    each adds to it (its two placements, Hanley & Hajian-Tilaki 1997), and the interval is the studentised bootstrap of that
    mean. Where the value is 0 or 1, no image differs from another and a bootstrap would claim certainty: there the interval
    is Clopper and Pearson's for pairs of one image's ``high`` and the next image's ``low``, which all agree.
    """
    count = len(high)
    above, below = _share_below(low, high), 1 - _share_below(high, low)
    value = float(above.mean())
    images = np.arange(count)
    if value in (0.0, 1.0):
        return rate_interval(np.full(count, value), images)
    estimate = studentised_interval([Groups.of((above + below - value)[:, None], images)])
    return replace(estimate, low=float(np.clip(estimate.low, 0, 1)), high=float(np.clip(estimate.high, 0, 1)))


def _share_below(others: Float[np.ndarray, " others"], scores: Float[np.ndarray, " scores"]) -> Float[np.ndarray, " scores"]:
    """Return the share of ``others`` below each score. An equal one counts half."""
    ordered = np.sort(others)
    places: np.ndarray = np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")
    share: np.ndarray = places / (2 * len(ordered))
    return share
