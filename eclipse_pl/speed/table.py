"""The table of `speed`, and the facts about this machine that stand below it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from eclipse_pl.device import commit, describe_machine
from eclipse_pl.speed.timing import Timing

FIGURES = {
    "samples_per_second": "{:,.0f}/s",
    "tflop_per_second": "{:,.3g} TFLOP/s",
    "share_of_peak": "{:.0%} of peak",
    "peak_memory_gb": "{:,.2f} GB",
    "peer_peak_memory_gb": "peer {:,.2f} GB",
    "minutes_of_61_million_samples": "61 million in {:,.1f} min",
    "share_of_padding": "{:.1%} padding",
}
"""How each figure of a row is printed."""


def print_table(timings: Sequence[Timing], machine: dict[str, str | int]) -> None:
    """Print one line a row, and the machine below."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Speed", caption=", ".join(f"{key} {value}" for key, value in machine.items()))
    for column in ("", "ours", "peer", "unit", "times as fast", "ours in detail"):
        table.add_column(column, justify="left" if column in ("", "unit", "ours in detail") else "right")
    for timing in timings:
        ratio = "-" if timing.ratio is None else f"{timing.ratio:.2f}"
        table.add_row(timing.name, number(timing.ours), number(timing.peer), timing.unit, ratio, detail(timing))
    Console().print(table)


def number(value: float | None) -> str:
    """One decimal, and three digits of a small number."""
    if value is None:
        return "-"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3g}"


def detail(timing: Timing) -> str:
    """The figures and the note of a row in words."""
    words = [FIGURES[name].format(value) for name, value in timing.figures.items()]
    return ", ".join([*words, *([timing.note] if timing.note else [])])


def machine_and_commit(device: torch.device) -> dict[str, str | int]:
    """`describe_machine`, with the version of CUDA and the commit of this checkout."""
    cuda = {"cuda": str(torch.version.cuda)} if device.type == "cuda" else {}
    return {**describe_machine(device), **cuda, "commit": commit()}
