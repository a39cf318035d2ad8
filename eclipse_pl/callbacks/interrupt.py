from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from eclipse_pl.callbacks.checkpoints import Checkpoints


class Interrupt(L.Callback):
    """Ctrl-C ends the step with all that belongs to it, writes ``last.ckpt``, and stops. A second Ctrl-C stops at once.

    Ranks agree on the step, because a terminal sends the signal to all of them at slightly different times.
    """

    def __init__(self) -> None:
        self._signalled = False
        self._stopping = False
        self._previous: Any = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, number: int, frame: Any) -> None:
        self._signalled = True
        signal.signal(signal.SIGINT, self._previous)
        rank_zero_info("Interrupted: writing a checkpoint after this step. Ctrl-C again stops at once.")

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        signalled = self._signalled
        if trainer.world_size > 1:
            signalled = trainer.strategy.reduce_boolean_decision(signalled, all=False)
        if signalled:
            self._stopping = True
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, Checkpoints):
                    callback.requested = True

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Stop only here: the step before has been logged, validated and saved."""
        if not self._stopping:
            return
        run = Path(str(trainer.log_dir))
        rank_zero_info(
            f"Stopped after step {trainer.global_step}. Go on with: "
            f"python -m eclipse_pl fit --config {run / 'config.yaml'} --ckpt_path {run}"
        )
        raise SystemExit(130)  # as a shell reports a program that SIGINT ended

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None
