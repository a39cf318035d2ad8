"""The sentence about a batch for which the memory of the GPU does not suffice."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import lightning as L
import torch


class OutOfMemory(L.Callback):
    """Says what to halve where torch says that the memory of a GPU does not suffice."""

    def __init__(self) -> None:
        self._sentence = ""

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Later the trainer no longer knows whether it was training or validating."""
        if isinstance(exception, torch.OutOfMemoryError):
            self._sentence = out_of_memory(trainer, trainer.datamodule)  # type: ignore[attr-defined]

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Around all that the trainer does.

        Raises:
            ValueError: In place of torch's error, with the measured peak.
        """
        try:
            yield
        except torch.OutOfMemoryError as error:
            if not self._sentence:
                raise
            raise ValueError(self._sentence) from error


def out_of_memory(trainer: Any, data: Any) -> str:
    """The sentence, for the batch of training or of validation and test that was computed."""
    if trainer.training:
        name, size = "batch_size", data.batch_size
        steps = trainer.accumulate_grad_batches
        remedy = f", with twice as many processes or trainer.accumulate_grad_batches {2 * steps} for the samples of a step"
    else:
        name, size, remedy = "val_batch_size", data.val_batch_size, ""
    place = f"{memory_in_words(trainer.strategy.root_device)} at step {trainer.global_step}, with data.{name} {size}"
    if size == 1:
        return f"{place}: a batch of one pair is too large. Take a smaller prior, or another GPU."
    return f"{place}. Halve it (--data.init_args.{name} {size // 2}){remedy}."


def memory_in_words(device: torch.device) -> str:
    """What this process took of a GPU's memory at most, and what the GPU has."""
    if device.type != "cuda":
        return f"The memory of {device} does not suffice"
    peak, total = torch.cuda.max_memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
    return (
        f"The memory of {torch.cuda.get_device_name(device)} does not suffice (peak of this process {peak / 1e9:.1f} of "
        f"{total / 1e9:.1f} GB)"
    )
