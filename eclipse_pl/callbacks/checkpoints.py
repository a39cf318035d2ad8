from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint


class Checkpoints(ModelCheckpoint):
    """``checkpoints/last.ckpt`` is the newest state of the run, also of its end; ``best-*.ckpt`` the best by ``monitor``.

    A state is written when everything that belongs to its step is done: after the step's metrics are logged, and its
    validation where one is due, so that a run that is resumed from it lacks none.

    Args:
        every_n_steps: How often ``last.ckpt`` is written.
        monitor: A logged metric, such as ``val/cosine``; None keeps no best checkpoint.
        mode: Whether the best is the largest or the smallest value of ``monitor``.
    """

    def __init__(self, every_n_steps: int = 1000, monitor: str | None = None, mode: Literal["min", "max"] = "max") -> None:
        if every_n_steps < 1:
            raise ValueError(f"checkpoint.every_n_steps is {every_n_steps}; it must be at least 1")
        super().__init__(
            filename="best-{step}",
            monitor=monitor,
            mode=mode,
            save_top_k=1 if monitor else 0,
            save_last=False,
        )
        self.every_n_steps = every_n_steps
        self.requested = False
        """Set by whoever wants this step's state, whether one is due or not."""
        self.last_saved = -1
        self._after_validation = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if trainer.log_dir is not None:
            self.dirpath = str(Path(trainer.log_dir) / "checkpoints")
        super().setup(trainer, pl_module, stage)

    def on_train_batch_end(self, trainer: L.Trainer, *args: object, **kwargs: object) -> None:
        loop = trainer.fit_loop.epoch_loop
        last = trainer.global_step == trainer.max_steps or (
            loop.batch_progress.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs
        )
        # not when training has ended: Lightning then counts the epoch as done, wherever in it the run stopped
        if not (trainer.global_step % self.every_n_steps == 0 or last or self.requested):
            return
        assert trainer.fit_loop._data_fetcher is not None
        self._after_validation = loop._should_check_val_fx(trainer.fit_loop._data_fetcher)  # there is no public way to ask
        if not self._after_validation:
            # Lightning logs the step after this hook: a run killed in between would lack it for ever. It then logs it again.
            trainer._logger_connector.update_train_step_metrics()
            self.save_last_state(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if self._after_validation:
            self.save_last_state(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.global_step != self.last_saved:  # something else than steps or epochs ended the run
            self.save_last_state(trainer)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict["dirpath"] == self.dirpath:  # what was best in another run's folder is not this run's best
            super().load_state_dict(state_dict)

    def save_last_state(self, trainer: L.Trainer) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        assert self.dirpath is not None
        self.last_saved = trainer.global_step
        self.requested = self._after_validation = False
        trainer.save_checkpoint(Path(self.dirpath) / "last.ckpt", weights_only=False)
