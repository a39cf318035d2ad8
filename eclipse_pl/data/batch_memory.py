"""The memory of a batch: its arrays one after another, and copies of rows into them."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from torch import Tensor

from eclipse_pl.embedding import ClipSpace

Numbers = TypeVar("Numbers", np.ndarray, Tensor)


def numbers_of(pairs: int, tokens: int, space: ClipSpace) -> int:
    """Number of float16 values in a batch."""
    return 2 * pairs * space.dim + tokens * space.text_width


def in_memory(memory: Numbers, pairs: int, tokens: int, space: ClipSpace) -> tuple[Numbers, Numbers, Numbers]:
    """image_embed, text_embed and text_states as views on flat memory, one after another."""
    ends = (pairs * space.dim, 2 * pairs * space.dim, numbers_of(pairs, tokens, space))
    return (
        memory[: ends[0]].reshape(pairs, space.dim),
        memory[ends[0] : ends[1]].reshape(pairs, space.dim),
        memory[ends[1] : ends[2]].reshape(tokens, space.text_width),
    )


def bounds_of(lengths: np.ndarray) -> tuple[int, int]:
    """``TextCondition.bounds`` of captions of these lengths."""
    return int(lengths.min()), int(lengths.max())


def token_rows(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """``start, start + 1, ... `` for each of the captions, one after another: 'ragged arange'."""
    ends = np.cumsum(lengths)
    return np.arange(int(lengths.sum())) + np.repeat(starts - (ends - lengths), lengths)


def copy_rows(out: np.ndarray, places: np.ndarray, source: np.ndarray, rows: np.ndarray) -> None:
    """``out[places] = source[rows]``, without a second copy if the (ascending) places are neighbours."""
    if not len(places):
        return
    first, last = int(places[0]), int(places[-1]) + 1
    if last - first == len(places):
        np.take(source, rows, axis=0, out=out[first:last], mode="clip")  # "clip" writes to out directly, "raise" does not
    else:
        out[places] = source[rows]
