from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class Groups:
    """Rows of one or two values, by groups: images of one prompt, captions of one image.

    Rows of one group resemble each other, and groups are independent: an interval from rows alone would be far too narrow.
    """

    sums: Float[np.ndarray, "groups kinds"]
    counts: Float[np.ndarray, " groups"]
    """Rows of each group."""
    outcomes: bool
    """Whether every value is 0 or 1."""

    @classmethod
    def of(cls, values: Float[np.ndarray, "rows kinds"], groups: Sequence[str] | np.ndarray) -> Groups:
        """``groups`` names the group of each row."""
        _, numbers = np.unique(np.asarray(groups), return_inverse=True)
        sums = np.stack([np.bincount(numbers, column) for column in values.T], 1)
        return cls(sums, np.bincount(numbers).astype(float), bool(np.isin(values, (0, 1)).all()))

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def means(self) -> Float[np.ndarray, " kinds"]:
        """Over rows: larger groups weigh more."""
        means: np.ndarray = self.sums.sum(0) / self.counts.sum()
        return means

    @property
    def residuals(self) -> Float[np.ndarray, "groups kinds"]:
        """How far each group moves the mean, times the number of groups: their variance is that of a group."""
        residuals: np.ndarray = (self.sums - self.means * self.counts[:, None]) / self.counts.mean()
        return residuals

    @property
    def difference(self) -> Groups:
        """The first value of each row less its second."""
        return Groups(self.sums[:, :1] - self.sums[:, 1:], self.counts, outcomes=False)
