from __future__ import annotations

import math
import time
from typing import Any

import lightning as L

from eclipse_pl.callbacks.training_cost import TrainingCost
from eclipse_pl.training.loop import step_is_logged, step_loop


class Throughput(TrainingCost):
    """Logs ``samples_per_second``, ``samples_seen``, ``train_seconds`` and ``waiting_for_data``.

    The first two are those of all ranks. The second and third are totals over all resumes, and also logged with every
    validation. Pairs count when an optimizer step was made with them. Time spent in validation, or generating
    `SampleImages`, does not count; time spent waiting for data does. ``waiting_for_data`` is its share of the time since the
    last log, on the first rank: near 0 if the loader keeps up.
    """

    def __init__(self) -> None:
        self.samples_seen = 0
        self.train_seconds = 0.0
        self._samples = 0
        self._of_step = 0
        self._seconds = 0.0
        self._last = 0.0
        self._waited = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last = time.perf_counter()
        self._waited = step_loop(trainer).waited_seconds

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trains(trainer):
            self.pause()

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trains(trainer):
            # equal on all ranks but for the clock's ticks; sync_dist states that to Lightning
            self._log_totals(pl_module, sync_dist=True)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.resume()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.pause()
        self._of_step += len(batch) * trainer.world_size
        if not step_loop(trainer).step_made:
            return
        self._samples += self._of_step
        self.samples_seen += self._of_step
        self._of_step = 0
        if step_is_logged(trainer):
            pl_module.log("samples_per_second", self._samples / self._seconds)
            waited = step_loop(trainer).waited_seconds
            pl_module.log("waiting_for_data", (waited - self._waited) / self._seconds)
            self._log_totals(pl_module)
            self._samples, self._seconds, self._waited = 0, 0.0, waited

    def state_dict(self) -> dict[str, Any]:
        return {"samples_seen": self.samples_seen, "train_seconds": self.train_seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.samples_seen = state_dict["samples_seen"]
        # a checkpoint from before times were kept: a total that lacks a part would be a wrong one
        self.train_seconds = state_dict.get("train_seconds", math.nan)

    def pause(self) -> None:
        now = time.perf_counter()
        self._seconds += now - self._last
        self.train_seconds += now - self._last
        self._last = now

    def resume(self) -> None:
        self._last = time.perf_counter()

    def _log_totals(self, pl_module: L.LightningModule, sync_dist: bool = False) -> None:
        pl_module.log("samples_seen", float(self.samples_seen), sync_dist=sync_dist)
        pl_module.log("train_seconds", self.train_seconds, sync_dist=sync_dist)


def trains(trainer: L.Trainer) -> bool:
    """False for a validation that belongs to no training, or comes before it."""
    return trainer.state.fn == "fit" and not trainer.sanity_checking
