"""The learning rate is a function of config and step. Its schedule is as long as the run, unless the config sets a length."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR, PolynomialLR, ReduceLROnPlateau

Build = Callable[[Optimizer], LRScheduler]

LENGTHS: dict[type, str] = {OneCycleLR: "total_steps", CosineAnnealingLR: "T_max", PolynomialLR: "total_iters"}
"""Schedules with an end, and the option that sets it. After it they raise, rise again, or stay at zero."""
OPTIONS = "model.scheduler.init_args"


@dataclass(frozen=True)
class RunLength:
    """Optimizer steps of the whole run, resumes included, or infinity; ``words`` name the options that say so."""

    steps: int | float
    words: str

    @classmethod
    def of(cls, trainer: Any) -> RunLength:
        steps = trainer.estimated_stepping_batches
        words = f"trainer.max_steps is {trainer.max_steps}"
        if trainer.max_epochs not in (None, -1):
            words += f" and trainer.max_epochs {trainer.max_epochs}, which is {steps} steps"
        return cls(steps, words)


def make_schedule(build: Build, optimizer: Optimizer, run: RunLength) -> tuple[LRScheduler, int | None]:
    """The schedule of a run, and its length in steps where it has one.

    Raises:
        ValueError: The schedule ends before the run, never leaves its warm-up, or has no step for it.
    """
    if stated_class(build) is OneCycleLR:
        build = one_cycle(build, run)
    schedule = build(optimizer)
    if isinstance(schedule, ReduceLROnPlateau):
        raise ValueError("ReduceLROnPlateau waits for a metric, but model.scheduler steps with every batch. Take another one.")
    option = LENGTHS.get(type(schedule))
    if option is None:
        return schedule, None
    length: int = getattr(schedule, option)
    if length < run.steps:
        raise ValueError(
            f"The schedule ends before the run: {OPTIONS}.{option} is {length}, and {run.words}. "
            + (f"Leave {option} out, and it is as long as the run." if option == "total_steps" else "Make them equal.")
        )
    return schedule, length


def stated_class(build: Build) -> type | None:
    """The class that a config names, which jsonargparse has wrapped."""
    parts = [build.func, *build.args] if isinstance(build, partial) else [build]
    return next((part for part in parts if isinstance(part, type) and issubclass(part, LRScheduler)), None)


def one_cycle(build: Any, run: RunLength) -> Build:
    """OneCycleLR with its length filled in; torch divides by the steps of the warm-up."""
    options = build.keywords if isinstance(build, partial) else {}
    length = options.get("total_steps")
    if length is None and options.get("epochs") and options.get("steps_per_epoch"):
        length = options["epochs"] * options["steps_per_epoch"]
    if length is None:
        if math.isinf(run.steps):
            raise ValueError(
                f"The schedule is as long as the run, and the run has no end: set trainer.max_steps or {OPTIONS}.total_steps."
            )
        length = int(run.steps)
        build = partial(build, total_steps=length)
    share = options.get("pct_start", 0.3)
    if share > 0 and share * length <= 1:
        raise ValueError(
            f"The warm-up has no step: {OPTIONS}.pct_start is {share} of {length} steps ({run.words}). Set pct_start above "
            f"{1 / length:.3g}, or to 0 for no warm-up."
        )
    if share * length > run.steps:
        raise ValueError(
            f"The run would end in its warm-up: {OPTIONS}.pct_start is {share} of {OPTIONS}.total_steps {length}, and "
            f"{run.words}. Leave total_steps out, and the schedule is as long as the run."
        )
    return build


def ended(schedule: LRScheduler, length: int | None) -> bool:
    """Whether the schedule stands at its last step. There it stays: a run that is resumed may have more steps behind it than
    its config now has, and torch refuses to go on, or raises the rate again."""
    return length is not None and schedule.last_epoch >= length - 1


def wind_forward(
    optimizer: Optimizer,
    schedule: LRScheduler | None,
    fresh: Optimizer,
    begun: LRScheduler | None,
    step: int,
    length: int | None = None,
) -> None:
    """Set a resumed optimizer to the config's values at ``step``, or at the schedule's last step, instead of the checkpoint's.

    Args:
        optimizer: Resumed; its moments stay.
        schedule: Of the resumed optimizer.
        fresh: The optimizer that the config makes.
        begun: The schedule that the config makes for it, at step 0.
        step: Steps done.
        length: Steps of the schedule, where it has an end.
    """
    if schedule is not None and begun is not None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)  # no weights are stepped
            for _ in range(step):
                if not ended(begun, length):
                    begun.step()
        schedule.load_state_dict(begun.state_dict())
    for group, stated in zip(optimizer.param_groups, fresh.param_groups, strict=True):
        group.update({name: value for name, value in stated.items() if name != "params"})
