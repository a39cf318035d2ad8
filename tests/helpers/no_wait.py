"""NoWait: a callback under which a step of ``fit`` that makes the host wait for the GPU is an error."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch


class NoWait(L.Callback):
    """Sets ``torch.cuda.set_sync_debug_mode("error")`` from the start of a step to the start of the next.

    So it covers the copy of the next batch too.

    It is off in the first step, in which libraries are initialised, and in steps that log: there the loss is read, and
    validations and checkpoints come after them.

    Args:
        every: The ``log_every_n_steps`` of the trainer.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.guarded: list[int] = []
        """The steps that may not wait."""

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        guarded = step > 0 and (step + 1) % self.every != 0
        if guarded:
            self.guarded.append(step)
        set_mode(pl_module.device, "error" if guarded else "default")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        set_mode(pl_module.device, "default")


def set_mode(device: torch.device, mode: str) -> None:
    """On a GPU: what torch does when the host waits."""
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode(mode)
