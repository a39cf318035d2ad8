"""Seeds: random numbers as a function of their place in a run, so that a resumed run draws those of the uninterrupted one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def place_seed(*place: int) -> int:
    """One seed for a place, such as (seed, epoch, batch, rank); neighbouring places have unrelated ones."""
    return int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0]) >> 1


def seed_generators(device: torch.device, seed: int) -> None:
    """Seed the default generators of the CPU and of the device of a batch.

    ``torch.manual_seed`` seeds those of all devices, and where CUDA is not in use it keeps a stack trace for later: 0.6 ms
    at every step, instead of 2 microseconds.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)  # of the current device, which is that of this process


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Inside, the default generators begin at this seed; afterwards they, and the seed that they name, are what they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        seed_generators(device, seed)
        yield
