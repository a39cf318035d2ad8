"""Pairs that belong to one split, because they share an image, a caption or a given name."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np
from jaxtyping import Int


def components(*names: Int[np.ndarray, " pairs"]) -> Int[np.ndarray, " pairs"]:
    """Number of the first pair of each pair's component. Pairs that share a name of any kind are connected.

    The smallest labels spread along shared names, and each label is replaced by its own label. A chain of n pairs takes about
    log n rounds.
    """
    labels = np.arange(len(names[0]))
    places = [np.unique(kind, return_inverse=True)[1] for kind in names]
    while True:
        before = labels.copy()
        for place in places:
            smallest = np.full(place.max(initial=-1) + 1, len(labels))
            np.minimum.at(smallest, place, labels)
            np.minimum.at(labels, before, smallest[place])  # the pair that a label points to gets the same label
            labels = np.minimum(labels, smallest[place])
        labels = labels[labels]
        if np.array_equal(labels, before):
            return labels


def numbered(names: Iterable[Hashable]) -> Int[np.ndarray, " names"]:
    """Equal names get equal numbers, for `components`."""
    first: dict[Hashable, int] = {}
    return np.array([first.setdefault(name, len(first)) for name in names], dtype=np.int64)
