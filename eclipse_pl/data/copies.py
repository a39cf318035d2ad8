"""Copies: batches on a GPU, each of them copied on a stream of its own while the batch before it is worked on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eclipse_pl.embedding import EmbeddingBatch


@dataclass(frozen=True)
class Copied:
    """A batch whose copy is under way."""

    batch: EmbeddingBatch
    pinned: EmbeddingBatch
    """The memory that is copied from. It is kept until the copy is done, because it is used again."""
    done: Any
    """The event at the end of the copy."""


class Copies:
    """The host never waits for a copy: the stream of the steps waits for its event.

    Args:
        device: The GPU of this process.
        cuda: ``torch.cuda``, or what stands for it in a test.
    """

    def __init__(self, device: torch.device, cuda: Any = torch.cuda) -> None:
        self._device = device
        self._cuda = cuda
        self._stream = cuda.Stream(device)

    def ahead(self, batches: Iterator[EmbeddingBatch]) -> Iterator[EmbeddingBatch]:
        """The batches, on the device and in float32. The next copy begins before a batch is handed out.

        An error of ``batches`` is raised in the place of its batch, not one batch earlier.
        """
        coming, error = self._begin(batches)
        copied: list[Copied] = []
        while coming is not None:
            current = coming
            coming, error = self._begin(batches)
            copied = [one for one in (*copied, current) if one is current or not one.done.query()]
            yield self._ready(current)
        if error is not None:
            raise error

    def _begin(self, batches: Iterator[EmbeddingBatch]) -> tuple[Copied | None, Exception | None]:
        try:
            pinned = next(batches, None)
        except Exception as error:
            return None, error
        if pinned is None:
            return None, None
        with self._cuda.stream(self._stream):
            batch = pinned.to(self._device, non_blocking=True)
            done = self._cuda.Event()
            done.record(self._stream)
        return Copied(batch, pinned, done), None

    def _ready(self, copied: Copied) -> EmbeddingBatch:
        """The batch, for the stream of the steps, which must be done with it before the memory is used for another copy."""
        steps = self._cuda.current_stream(self._device)
        steps.wait_event(copied.done)
        for tensor in tensors_of(copied.batch):
            tensor.record_stream(steps)
        return copied.batch


def tensors_of(batch: EmbeddingBatch) -> list[Tensor]:
    """All tensors of a batch."""
    values = [*vars(batch.text).values(), *vars(batch).values()]
    return [value for value in values if isinstance(value, Tensor)]
