"""OneCaption: each image of a split with one of its captions, drawn anew for every epoch."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

# Numbers the draw among all random numbers of an epoch, so that it equals none of those that shuffle pairs.
DRAW = 2**32 - 1


class OneCaption:
    """The pairs of an epoch in which every image occurs once. They are a pure function of (seed, epoch).

    Each caption of an image is equally likely in each epoch, whatever was drawn before.

    Args:
        numbers: Numbers of all pairs in use, ascending.
        groups: Number of each pair's image. The pairs of an image may lie in any records.
    """

    def __init__(self, numbers: Int[np.ndarray, " pairs"], groups: Int[np.ndarray, " pairs"]) -> None:
        order = np.argsort(groups, kind="stable")
        _, self._first, self._captions = np.unique(groups[order], return_index=True, return_counts=True)
        self._numbers = numbers[order]

    def __len__(self) -> int:
        """Images."""
        return len(self._first)

    def drawn(self, seed: int, epoch: int) -> Int[np.ndarray, " images"]:
        """Numbers of the pairs of the epoch, ascending."""
        random = np.random.default_rng([seed, epoch, DRAW])
        return np.sort(self._numbers[self._first + random.integers(self._captions)])
