from __future__ import annotations

from itertools import chain
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, WeightAveraging
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_swa_avg_fn

from eclipse_pl.lit_prior import has_gradient
from eclipse_pl.training.learning_rate import RunLength

LATE = 10**9
"""An epoch after any at which averaging could begin."""


class Averaging(L.Callback):
    """Corrects Lightning's WeightAveraging; without weight averaging it does nothing.

    Tensors that must not be averaged are kept out. Before the first update the average is the trained weights, and not those
    that training began with: a validation, a checkpoint and the end of a run may come earlier.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        averages = averages_of(trainer)
        if not averages:
            return
        if len(averages) > 1:
            raise ValueError(f"{len(averages)} callbacks average the weights; keep one, in `average` or in trainer.callbacks.")
        if not has_gradient(pl_module):
            raise ValueError(
                f"{type(getattr(pl_module, 'prior', pl_module)).__name__} has no weights that change with the steps, so there "
                "is nothing to average. Leave `average` out."
            )
        if averages[0].should_update(epoch_idx=LATE):
            raise ValueError(
                f"{type(averages[0]).__name__} averages at the end of an epoch, after its validation and its checkpoint: "
                "neither would hold that average. Average by steps (update_every_n_steps, update_starting_at_step)."
            )
        every = averages[0].update_every_n_steps if isinstance(averages[0], EMAWeightAveraging) else 1
        if every < 1:
            raise ValueError(f"update_every_n_steps is {every}; it must be 1 (after every step) or more.")
        assert averages[0]._average_model is not None
        # Buffers of priors are constants. Their average drifts by rounding, and those that no checkpoint holds, such as a
        # noise schedule, would drift in training only.
        averages[0]._average_model.use_buffers = False
        averages[0]._average_model.__class__ = CountedAverage

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for average in averages_of(trainer):
            assert isinstance(average._average_model, CountedAverage)
            if average._device is None:  # it was made before the weights came to their device
                average._average_model.to(pl_module.device)
            average._average_model.counted = int(average._average_model.n_averaged)  # a checkpoint may have been loaded
            average._average_model.follow(pl_module)
            first, run = getattr(average, "update_starting_at_step", None) or 0, RunLength.of(trainer)
            if first >= run.steps and not average._average_model.counted:
                rank_zero_info(f"No weights will be averaged: update_starting_at_step is {first}, and {run.words}.")

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any) -> None:
        for average in averages_of(trainer):
            if isinstance(average._average_model, CountedAverage):  # not where setup failed
                average._average_model.follow(pl_module)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Another callback may have failed before this one's hook, and the checkpoint of that step is still to be written."""
        self.on_train_batch_end(trainer, pl_module)


class CountedAverage(AveragedModel):
    """torch's average of weights. It keeps the number of averaged states on the host too: torch reads the device for it at
    every update."""

    counted = 0

    @torch.no_grad()
    def follow(self, model: nn.Module) -> None:
        """Take over the weights and buffers of ``model``, as long as no states have been averaged."""
        if self.counted == 0:
            ours, theirs = (list(chain(one.parameters(), one.buffers())) for one in (self.module, model))
            torch._foreach_copy_(ours, [tensor.to(own.device) for own, tensor in zip(ours, theirs, strict=True)])

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        self.follow(model)
        if self.counted:
            average = self.avg_fn or get_swa_avg_fn()
            ours: list[Tensor] = list(self.module.parameters())
            theirs = [weight.detach().to(own.device) for own, weight in zip(ours, model.parameters(), strict=True)]
            if self.multi_avg_fn is not None:
                self.multi_avg_fn(ours, theirs, self.counted)
            else:
                for own, weight in zip(ours, theirs, strict=True):
                    own.copy_(average(own, weight, self.counted))
            for kept, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
                kept.copy_(buffer)
        self.n_averaged += 1
        self.counted += 1


def averages_of(trainer: L.Trainer) -> list[WeightAveraging]:
    """The callbacks that hold an average of weights that are being trained: one, or none.

    At the end of a validation they give the module its own weights back, before the callbacks that come after them.
    """
    found = [callback for callback in trainer.callbacks if isinstance(callback, WeightAveraging)]  # type: ignore[attr-defined]
    return [average for average in found if average._average_model is not None]
