"""A row of the table of `speed`: our code and a peer that take turns, and the medians of both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

TIMES = ("ms",)
"""Units of which less is better; of all others (rates) more is."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    ours: float
    peer: float
    unit: str

    @property
    def ratio(self) -> float:
        """How many times as fast as the peer."""
        return self.peer / self.ours if self.unit in TIMES else self.ours / self.peer


def in_turns(runs: Sequence[Callable[[], object]], device: torch.device, repetitions: int = 3) -> list[float]:
    """Median seconds of each, after one that is not counted."""
    seconds: list[list[float]] = [[] for _ in runs]
    for repetition in range(repetitions + 1):
        for run, taken in zip(runs, seconds, strict=True):
            start = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if repetition:
                taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in seconds]


def training_step(network: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    # A step so small that the weights of both stay the same for all that a clock can tell.
    optimizer = torch.optim.AdamW(trained, lr=1e-9, fused=True)

    def one() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return one
