from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar

from eclipse_pl.training.loop import step_is_logged

SHOWN = ("train/total", "samples_per_second")


class Progress(RichProgressBar):
    """Lightning's rich bar, without the run's name, and without "Epoch 0/-2" where steps end the run.

    It shows numbers of the steps that are logged, and reads the device there alone.
    """

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        logged = trainer.logged_metrics
        return {name: float(logged[name]) for name in SHOWN if name in logged}

    def _update_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule, *count: int, **total: bool) -> None:
        if step_is_logged(trainer):
            super()._update_metrics(trainer, pl_module, *count, **total)  # which lightning 2.6.0 gives, and 2.6.6 does not

    def _get_train_description(self, current_epoch: int) -> str:
        return f"Epoch {current_epoch}".ljust(len(self.validation_description))
