from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import lightning as L

from eclipse_pl.lit_prior import clock


class TrainingCost(L.Callback, ABC):
    """Counts what training alone takes. A run does other things too, and counting is paused for them."""

    @abstractmethod
    def pause(self) -> None:
        """Count up to now."""

    @abstractmethod
    def resume(self) -> None:
        """Count on from now."""


@contextmanager
def outside_training(trainer: L.Trainer, module: L.LightningModule) -> Iterator[None]:
    """What is done inside, on this rank, is none of the cost of training."""
    costs = [callback for callback in trainer.callbacks if isinstance(callback, TrainingCost)]  # type: ignore[attr-defined]
    clock(module.device)  # steps that the device has not finished yet are training
    for cost in costs:
        cost.pause()
    yield
    for cost in costs:
        cost.resume()
