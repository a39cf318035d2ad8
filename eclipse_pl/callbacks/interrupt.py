from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities.rank_zero import rank_zero_info


class Interrupt(L.Callback):
    """Ctrl-C ends the step, writes a checkpoint that resumes exactly there, and stops. A second Ctrl-C stops at once.

    Ranks agree on the step, because a terminal sends the signal to all of them at slightly different times.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: Any = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, number: int, frame: Any) -> None:
        self.requested = True
        signal.signal(signal.SIGINT, self._previous)
        rank_zero_info("Interrupted: writing a checkpoint after this step. Ctrl-C again stops at once.")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        requested = self.requested
        if trainer.world_size > 1:
            requested = trainer.strategy.reduce_boolean_decision(requested, all=False)
        if not requested:
            return
        assert trainer.log_dir is not None
        path = Path(trainer.log_dir) / "checkpoints" / "interrupted.ckpt"
        trainer.save_checkpoint(path, weights_only=False)
        rank_zero_info(
            f"Stopped after step {trainer.global_step}. Go on with: python -m eclipse_pl fit "
            f"--config {path.parent.parent / 'config.yaml'} --ckpt_path {path}"
        )
        raise SystemExit(130)  # as a shell reports a program that SIGINT ended

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None
