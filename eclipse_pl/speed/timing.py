"""Timing: our code and a peer run in turns, and their medians are compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Timing:
    """One row of the table. In "ms" less is better, in all other units (rates) more."""

    name: str
    ours: float
    peer: float
    unit: str

    @property
    def ratio(self) -> float:
        """Our speed divided by the peer's."""
        return self.peer / self.ours if self.unit == "ms" else self.ours / self.peer


def in_turns(functions: Sequence[Callable[[], object]], device: torch.device, repetitions: int = 3) -> list[float]:
    """Return the median seconds of each function. The first call of each does not count."""
    seconds: list[list[float]] = [[] for _ in functions]
    for repetition in range(repetitions + 1):
        for function, taken in zip(functions, seconds, strict=True):
            start = time.perf_counter()
            function()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if repetition:
                taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in seconds]


def training_step(network: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """Return a function that computes the loss and its gradients and runs AdamW."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-9, fused=True)  # a tiny learning rate keeps the weights as they are

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step
