from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from eclipse_pl.files import write_atomically
from eclipse_pl.run import MetricsFile, Run
from eclipse_pl.training.wandb_account import Mode, wandb_identity, wandb_logger, wandb_mode


class Opening(L.Callback):
    """Makes the run's folder and starts its loggers when set-up has passed: a run that is refused before leaves no files.

    Until then ``trainer.log_dir`` is None, unless the run has a name or is resumed; callbacks that write ask for it only then.

    Args:
        run: Whose folder it is.
        command: ``fit``, ``validate`` or ``test``.
        checkpoint: The checkpoint that the run resumes from.
        parser: Of the command; config.yaml in the run's folder is ``config``, which really ran, and loggers get the same.
        extra: More loggers than metrics.csv and Weights & Biases.
    """

    def __init__(
        self, run: Run, command: str, checkpoint: str | None, parser: ArgumentParser, config: Any, extra: list[Logger]
    ) -> None:
        self.run, self.command, self.checkpoint = run, command, checkpoint
        self.parser, self.config, self.extra = parser, config, extra
        self._opened = False
        self._homeless: list[ModelCheckpoint] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        place = self.run.place(self.command, self.checkpoint)
        trainer.loggers = [DummyLogger() if place is None else MetricsFile(place)]
        found = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
        self._homeless = [callback for callback in found if callback.dirpath is None and place is None]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._open(trainer)
        for callback in self._homeless:  # in their own setup they found no folder
            callback.dirpath = None
            callback.setup(trainer, pl_module, "fit")

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._open(trainer)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._open(trainer)

    def _open(self, trainer: L.Trainer) -> None:
        if self._opened:
            return
        self._opened = True
        path, mode, identity = self._agreed(trainer)
        trainer.loggers = [MetricsFile(path), *self.extra]
        if mode != "disabled":
            trainer.loggers.append(wandb_logger(mode, path, self.run.project, identity))
            if mode == "online" and trainer.is_global_zero:
                trainer.loggers[-1] = self._started(trainer.loggers[-1], path, identity)
        stated = self.parser.dump(self.config, skip_none=False)
        if trainer.is_global_zero:
            write_atomically(path / "config.yaml", stated.encode())
        for logger in trainer.loggers:
            logger.log_hyperparams(yaml.safe_load(stated))

    def _agreed(self, trainer: L.Trainer) -> tuple[Path, Mode, str | None]:
        """The result of the first process, on all of them.

        Raises:
            ValueError: On all of them, the reason of the refusal.
        """
        found: tuple[Path, Mode, str | None] | str = ""
        if trainer.is_global_zero:
            try:
                mode = wandb_mode(self.run.wandb)
                path = self.run.open(self.command, self.checkpoint)
                found = path, mode, None if mode == "disabled" else wandb_identity(path)
            except ValueError as error:
                found = str(error)
        found = trainer.strategy.broadcast(found)
        if isinstance(found, str):
            raise ValueError(found)
        return found

    def _started(self, logger: Any, path: Path, identity: str | None) -> Logger:
        """The logger, or one that stays offline where the server answers, but not as it should."""
        import wandb

        try:
            _ = logger.experiment
            return logger
        except (wandb.Error, OSError) as error:
            wandb.teardown()  # its service holds the run's id for the try that failed
            reason = " ".join(str(error).split())[:200]
            rank_zero_info(f"Weights & Biases refuses ({reason}): logging offline; `wandb sync` uploads a run later.")
            return wandb_logger("offline", path, self.run.project, identity)
