from __future__ import annotations

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging

LATE = 10**9
"""An epoch after any at which averaging could begin."""


class Averaging(L.Callback):
    """Keeps tensors that must not be averaged out of Lightning's WeightAveraging; without weight averaging it does nothing."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        averages = averages_of(trainer)
        if not averages:
            return
        if len(averages) > 1:
            raise ValueError(f"{len(averages)} callbacks average the weights; keep one, in `average` or in trainer.callbacks.")
        if not any(parameter.requires_grad for parameter in pl_module.parameters()):
            raise ValueError(
                f"{type(getattr(pl_module, 'prior', pl_module)).__name__} has no weights that change with the steps, so there "
                "is nothing to average. Leave `average` out."
            )
        if averages[0].should_update(epoch_idx=LATE):
            raise ValueError(
                f"{type(averages[0]).__name__} averages at the end of an epoch, after its validation and its checkpoint: "
                "neither would hold that average. Average by steps (update_every_n_steps, update_starting_at_step)."
            )
        assert averages[0]._average_model is not None
        # Buffers of priors are constants. Their average drifts by rounding, and those that no checkpoint holds, such as a
        # noise schedule, would drift in training only.
        averages[0]._average_model.use_buffers = False


def averages_of(trainer: L.Trainer) -> list[WeightAveraging]:
    """The callbacks that hold an average of weights that are being trained: one, or none.

    At the end of a validation they give the module its own weights back, before the callbacks that come after them.
    """
    found = [callback for callback in trainer.callbacks if isinstance(callback, WeightAveraging)]  # type: ignore[attr-defined]
    return [average for average in found if average._average_model is not None]
