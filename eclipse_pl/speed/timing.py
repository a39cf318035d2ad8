"""Timing: our code and a peer run in turns, and their medians are compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn

from eclipse_pl.device import free_memory

Function = Callable[[], object]
Made = TypeVar("Made")

TURN = 0.2
"""Seconds that a turn on a GPU takes at least, if a function is quicker than that, up to `MOST_CALLS` calls."""
MOST_CALLS = 50
"""Calls of a function in one turn."""


@dataclass(frozen=True)
class Timing:
    """One row of the table. In "ms" less is better, in all other units (rates) more."""

    name: str
    ours: float | None
    """None where memory did not suffice, which ``note`` says."""
    peer: float | None
    """None where there is no peer, or its memory did not suffice."""
    unit: str
    figures: dict[str, float] = field(default_factory=dict)
    """More about ours, by names that `eclipse_pl.speed.table` knows."""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Our speed divided by the peer's."""
        if self.ours is None or self.peer is None:
            return None
        return self.peer / self.ours if self.unit == "ms" else self.ours / self.peer


def in_turns(functions: Sequence[Function], device: torch.device, repetitions: int = 3) -> list[float]:
    """Return the median seconds of a call of each function. The first call of each does not count.

    On a GPU a turn is several calls between two CUDA events, so that launches overlap with the work before them.
    """
    calls = [warm_up(function, device) for function in functions]
    turns = [
        [seconds_of(function, device, number) for function, number in zip(functions, calls, strict=True)]
        for _ in range(repetitions)
    ]
    return [statistics.median(taken) for taken in zip(*turns, strict=True)]


def warm_up(function: Function, device: torch.device) -> int:
    """Call ``function``, and return how many calls make a turn."""
    function()
    if device.type != "cuda":
        return 1
    return min(MOST_CALLS, max(1, round(TURN / seconds_of(function, device))))


def seconds_of(function: Function, device: torch.device, calls: int = 1) -> float:
    """Seconds of each of ``calls`` calls, until the device has done its work."""
    if device.type != "cuda":
        begun = time.perf_counter()
        for _ in range(calls):
            function()
        return (time.perf_counter() - begun) / calls
    with torch.cuda.device(device):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        for _ in range(calls):
            function()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3 / calls


def in_turns_where_memory_suffices(
    functions: Sequence[Function], device: torch.device, repetitions: int = 3
) -> list[float | None]:
    """`in_turns` of the functions that the device's memory is large enough for, and None for the others."""
    enough = [memory_suffices(function, device) for function in functions]
    run = [function for function, fits in zip(functions, enough, strict=True) if fits]
    seconds = iter(in_turns(run, device, repetitions) if run else [])
    return [next(seconds) if fits else None for fits in enough]


def memory_suffices(function: Function, device: torch.device) -> bool:
    """Call ``function``, and return whether the device has enough memory for it."""
    return where_memory_suffices(lambda: (function(),), device) is not None


def where_memory_suffices(make: Callable[[], Made], device: torch.device) -> Made | None:
    """What ``make`` returns; None where the device has not enough memory for it."""
    try:
        return make()
    except torch.OutOfMemoryError:
        pass
    free_memory(device)  # only here is the error gone, and with it what it held
    return None


def peak_memory_gb(function: Function, device: torch.device) -> float | None:
    """GB that a call allocates on top of what is there before it; None where torch does not count."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    function()
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - before) / 1e9


def autocast(device: torch.device) -> torch.autocast:
    """The precision of training: bfloat16 by autocast on a GPU, as in the experiments, and float32 elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def training_step(network: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """Return a function that computes the loss and its gradients and runs AdamW, in the precision of `autocast`."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-9, fused=True)  # a tiny learning rate keeps the weights as they are
    device = trained[0].device

    def step() -> None:
        optimizer.zero_grad()
        with autocast(device):
            value = loss()
        value.backward()
        optimizer.step()

    return step
