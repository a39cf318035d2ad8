"""Which pairs belong together, and so into one split: those that share an image, a caption, or a name that somebody gave."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np
from jaxtyping import Int


def components(*names: Int[np.ndarray, " pairs"]) -> Int[np.ndarray, " pairs"]:
    """Number of the first pair of each pair's component, where pairs that share a name of any kind are connected.

    Smallest labels spread along shared names, and each label points on to its own label, so that chains of n pairs take about
    log n rounds.
    """
    labels = np.arange(len(names[0]))
    places = [np.unique(kind, return_inverse=True)[1] for kind in names]
    while True:
        before = labels.copy()
        for place in places:
            smallest = np.full(place.max(initial=-1) + 1, len(labels))
            np.minimum.at(smallest, place, labels)
            np.minimum.at(labels, before, smallest[place])  # what a label points to follows it
            labels = np.minimum(labels, smallest[place])
        labels = labels[labels]
        if np.array_equal(labels, before):
            return labels


def numbered(names: Iterable[Hashable]) -> Int[np.ndarray, " names"]:
    """Equal names get equal numbers, for `components`."""
    first: dict[Hashable, int] = {}
    return np.array([first.setdefault(name, len(first)) for name in names], dtype=np.int64)
