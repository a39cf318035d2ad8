from __future__ import annotations

from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from eclipse_pl.callbacks.energy_counters import Counter, gpu_counters, processor_counters, total
from eclipse_pl.callbacks.throughput import trains
from eclipse_pl.callbacks.training_cost import TrainingCost
from eclipse_pl.latent.metrics import COUNTERS
from eclipse_pl.training.loop import step_is_logged, step_loop

JOULES_PER_KWH = 3.6e6


class Energy(TrainingCost):
    """Logs ``train_kwh_gpu`` and ``train_kwh_cpu``, the energy of training by the counters of the hardware.

    A GPU's counter is that of the whole card, and a processor's that of the whole socket with its memory: work of others
    counts, too. Totals are those of all ranks and nodes over all resumes, without validation and the generation of
    `SampleImages`, and up to the last log. A kind of hardware without a counter is not logged, and nothing is estimated.
    """

    def __init__(self) -> None:
        self._joules: list[float] | None = None
        """Of all ranks, in the order of `COUNTERS`; None before training, and in a run whose first part was not counted."""
        self._gpus: list[Counter] = []
        self._processors: list[Counter] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._joules is None and trainer.global_step > 0:
            rank_zero_warn("The run began without run.energy. A total that lacks a part would be a wrong one: none is logged.")
            return
        self._joules = self._joules or [0.0, 0.0]
        self._gpus = gpu_counters(pl_module.device)
        self._processors = [] if trainer.local_rank else processor_counters()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trains(trainer):
            self._count(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trains(trainer):
            self._log(pl_module, sync_dist=True)  # equal on all ranks; sync_dist states that to Lightning

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.resume()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        for counter in self._processors:  # at full load they begin again after minutes
            counter.look()
        if step_loop(trainer).step_made and step_is_logged(trainer):
            self._count(trainer, pl_module)
            self._log(pl_module)

    def pause(self) -> None:
        for counter in (*self._gpus, *self._processors):
            counter.look()

    def resume(self) -> None:
        for counter in (*self._gpus, *self._processors):
            counter.skip()

    def state_dict(self) -> dict[str, Any]:
        return {"joules": self._joules}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._joules = state_dict["joules"]

    def _count(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add what all ranks have used since the last time."""
        if self._joules is None:
            return
        self.pause()
        here = torch.tensor([total(self._gpus), total(self._processors)], device=pl_module.device)
        everywhere = trainer.strategy.reduce(here, reduce_op="sum").tolist()
        self._joules = [before + more for before, more in zip(self._joules, everywhere, strict=True)]
        for counter in (*self._gpus, *self._processors):
            counter.joules = 0.0

    def _log(self, pl_module: L.LightningModule, sync_dist: bool = False) -> None:
        for name, joules in zip(COUNTERS, self._joules or (), strict=False):
            if joules:
                pl_module.log(name, joules / JOULES_PER_KWH, sync_dist=sync_dist)


def require_counters(accelerator: str) -> None:
    """Check that a run on ``accelerator`` can measure energy here.

    Raises:
        ValueError: Nothing here has a counter that can be read.
    """
    device = torch.device("cuda" if torch.cuda.is_available() and accelerator not in ("cpu", "CPUAccelerator") else "cpu")
    if not gpu_counters(device) and not processor_counters():
        raise ValueError(
            "run.energy is true, and no counter of energy can be read here. Those of GPUs need a card since Volta, and `pip "
            "install 'eclipse_pl[energy]'`; those of processors need /sys/class/powercap, which may be readable by root only. "
            "Leave run.energy out, or make one of them readable."
        )
