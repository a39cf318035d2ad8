from __future__ import annotations

import time
from typing import Any

import lightning as L


class Throughput(L.Callback):
    """Logs ``samples_per_second`` and ``samples_seen``, both over all ranks.

    Time spent in validation does not count; time spent waiting for data does.
    """

    def __init__(self) -> None:
        self.samples_seen = 0
        self._samples = 0
        self._seconds = 0.0
        self._last = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last = time.perf_counter()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._seconds += time.perf_counter() - self._last

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self._seconds, self._last = self._seconds + now - self._last, now
        self._samples += len(batch) * trainer.world_size
        self.samples_seen += len(batch) * trainer.world_size
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            pl_module.log("samples_per_second", self._samples / self._seconds, prog_bar=True)
            pl_module.log("samples_seen", float(self.samples_seen))
            self._samples, self._seconds = 0, 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"samples_seen": self.samples_seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.samples_seen = state_dict["samples_seen"]
