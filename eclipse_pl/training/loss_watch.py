"""LossWatch: the losses of the last batches, kept on the device until the run looks whether all of them were finite."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor

from eclipse_pl.embedding import EmbeddingBatch

MOST = 1000
"""The most batches that are kept; where the run looks less often, the watch asks for a look."""


@dataclass(frozen=True)
class Seen:
    """What is kept of a batch."""

    step: int
    numbers: Float[Tensor, "4"]
    """The loss, then the norms of image_embed, text_embed and text_states: a norm is finite where all numbers are."""
    index: Int[Tensor, " batch"]


class LossWatch:
    """`note` starts work on the device and never waits for it. `look` waits, once for all batches since the last look.

    A run looks where it reads the device anyway or uses the weights: before a step that is logged, before a validation, a
    checkpoint and images, and at the end of an epoch and of the training. So it may train on after a loss that is not finite,
    but nothing of that is saved, measured or shown.
    """

    def __init__(self) -> None:
        self._seen: list[Seen] = []

    @property
    def full(self) -> bool:
        """Whether a look is due to free memory."""
        return len(self._seen) >= MOST

    def note(self, loss: Float[Tensor, ""], batch: EmbeddingBatch, step: int) -> None:
        """Keep the loss of a batch.

        Args:
            loss: The loss that is minimised.
            batch: The batch, on the device of the loss.
            step: The optimizer steps made before the step that this batch belongs to.
        """
        arrays = [batch.image_embed, batch.text.text_embed, batch.text.text_states]
        norms = torch._foreach_norm([array.detach() for array in arrays], 2, torch.float32)
        self._seen.append(Seen(step, torch.stack([loss.detach().float(), *norms]), batch.index))

    def forget(self) -> None:
        """Drop the batches since the last look."""
        self._seen = []

    def look(self) -> None:
        """Read the losses of all ranks since the last look. All ranks look together.

        Raises:
            ValueError: On all ranks, if a loss of any rank is not finite. It names the first such step and its pairs.
        """
        seen, self._seen = self._seen, []
        if not seen:
            return
        numbers = torch.stack([one.numbers for one in seen])
        finite = numbers[:, 0].isfinite().all()
        together = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        if together:
            finite = finite.to(torch.int32)
            dist.all_reduce(finite, dist.ReduceOp.MIN)
        if finite:
            return
        reasons = [first_reason(seen, numbers.tolist())]
        if together:
            reasons = reasons * dist.get_world_size()
            dist.all_gather_object(reasons, reasons[0])
        raise ValueError(min(reason for reason in reasons if reason is not None)[-1])


def first_reason(seen: list[Seen], numbers: list[list[float]]) -> tuple[int, bool, str] | None:
    """The number of the first batch with a loss that is not finite, whether its arrays are, and a sentence."""
    for place, (batch, (loss, *norms)) in enumerate(zip(seen, numbers, strict=True)):
        if math.isfinite(loss):
            continue
        names = ("image_embed", "text_embed", "text_states")
        broken = [name for name, norm in zip(names, norms, strict=True) if not math.isfinite(norm)]
        if broken:
            return place, False, (
                f"NaN or infinity in {', '.join(broken)} of the batch at step {batch.step} (pairs {batch.index[:4].tolist()} "
                "... of the shards). `python -m data_prep verify FOLDER` names the record; the last checkpoint holds no trace "
                "of it."
            )  # fmt: skip
        return place, True, (
            f"The loss is {loss} at step {batch.step} although the batch is finite: training diverged. Lower the learning "
            "rate, or set trainer.gradient_clip_val. The last checkpoint is from before."
        )  # fmt: skip
    return None
