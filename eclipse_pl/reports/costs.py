"""What a variant took."""

from __future__ import annotations

import math
from dataclasses import dataclass

from eclipse_pl.reports.run_record import RunRecord
from eclipse_pl.reports.variants import Variant

COSTS = (
    "trained_steps", "samples_seen", "train_pairs", "trained_parameters", "parameters", "train_seconds", "forward_passes",
    "seconds_per_1000",
)  # fmt: skip
"""The numbers of a `Cost`."""


@dataclass(frozen=True)
class Cost:
    """Times are those of each seed (s), which are no estimates: they tell of a machine as busy as it was.

    NaN or None where a run did not record it.
    """

    trained_steps: int
    samples_seen: float
    train_pairs: int | None
    trained_parameters: int | None
    parameters: int | None
    train_seconds: list[float]
    forward_passes: int | None
    seconds_per_1000: list[float]
    machine: str

    @classmethod
    def of(cls, variant: Variant) -> Cost:
        runs, first = list(variant.runs.values()), variant.first
        held = [one["pairs"] for one in first.training_data]
        pairs = first.config.get("data.init_args.pairs") or (held[0] if len(held) == 1 else None)
        machines = dict.fromkeys(machine_of(run) for run in runs)
        return cls(
            trained_steps=first.step,
            samples_seen=math.fsum(run.total("samples_seen") for run in runs) / len(runs),
            train_pairs=pairs,
            trained_parameters=first.fact("prior", "trained_parameters"),
            parameters=first.fact("prior", "parameters"),
            train_seconds=[run.total("train_seconds") for run in runs],
            forward_passes=first.fact("sampling", "forward_passes"),
            seconds_per_1000=[run.fact("sampling", "seconds_per_1000") or math.nan for run in runs],
            machine="; ".join(machines),
        )

    def number(self, name: str) -> float:
        """One of `COSTS`, times as means over seeds; NaN where it is not known."""
        value = getattr(self, name)
        if isinstance(value, list):
            return math.fsum(value) / len(value)
        return math.nan if value is None else float(value)


def machine_of(run: RunRecord) -> str:
    """What times depend on, in words."""
    machine = run.fact("machine")
    if not machine:
        return "unknown"
    device = machine["cpu"] if machine["gpu"] == "none used" else machine["gpu"]
    return f"{device}, {machine['threads']} of {machine['cores']} cores, torch {machine['torch']}"
