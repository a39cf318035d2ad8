"""States: how a set of shards stores its captions - as float16 token states, as int8 token states, or as token ids."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float16, Int8

States = Literal["float16", "int8", "tokens"]
"""What is stored for each token: W float16 numbers, W int8 numbers and their factor, or its id (4 bytes)."""
STATES: dict[States, tuple[str, ...]] = {
    "float16": ("text_states",),
    "int8": ("text_states_int8", "text_states_scale"),
    "tokens": ("token_ids",),
}
"""The members that hold them (see `chunk`)."""
LEVELS = 127
MOST = np.float16(515.5)
"""The largest factor: 127 times the next float16 is infinite in float16."""
BLOCK = 512
"""Rows restored at a time: their float32 numbers stay in the processor's cache."""


def states_of(members: Collection[str]) -> States:
    """How a record with these members stores its captions. A record that stores none in any form counts as float16."""
    return next((states for states, fields in STATES.items() if f"{fields[0]}.npy" in members), "float16")


def to_int8(
    states: Float16[np.ndarray, "tokens width"],
) -> tuple[Int8[np.ndarray, "tokens width"], Float16[np.ndarray, " tokens"]]:
    """Finite token states as int8, and the factor of each row: the largest of its numbers is 127 or -127.

    A restored number differs by at most half of its row's factor, and by the rounding to float16. Factors are rounded up, so
    that none vanishes and no number exceeds 127. A row of zeros has the factor 0.
    """
    exact = states.astype(np.float32)
    wanted = np.abs(exact).max(axis=1, initial=0) / np.float32(LEVELS)
    scale = wanted.astype(np.float16)
    scale = np.minimum(np.where(scale < wanted, np.nextafter(scale, np.float16(np.inf)), scale), MOST)
    divisor = np.where(scale > 0, scale, np.float16(1)).astype(np.float32)
    return np.rint(exact / divisor[:, None]).astype(np.int8), scale


def from_int8(
    stored: Int8[np.ndarray, "tokens width"],
    scale: Float16[np.ndarray, " tokens"],
    out: Float16[np.ndarray, "tokens width"] | None = None,
) -> Float16[np.ndarray, "tokens width"]:
    """The token states of `to_int8`, in ``out`` if it is given.

    torch by way of float32 takes a third of the time of int8 to float16 directly, and a fifteenth of numpy's.
    """
    out = np.empty(stored.shape, dtype=np.float16) if out is None else out
    exact = torch.empty(min(BLOCK, len(stored)), stored.shape[1])
    source, factors, target = torch.from_numpy(stored), torch.from_numpy(scale).float()[:, None], torch.from_numpy(out)
    for first in range(0, len(stored), BLOCK):
        rows = slice(first, first + BLOCK)
        block = exact[: len(source[rows])]
        target[rows].copy_(block.copy_(source[rows]).mul_(factors[rows]))
    return out
