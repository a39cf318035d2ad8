from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.fabric.utilities.apply_func import apply_to_collection
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from eclipse_pl.files import atomic_path, write_json
from eclipse_pl.lit_prior import has_gradient
from eclipse_pl.priors.checkpoint import checkpoint_space
from eclipse_pl.run import MetricsFile
from eclipse_pl.training.loop import log_step, step_is_fresh, step_loop

FINISHED = "finished.json"
"""In a run's folder, when nothing of a ``fit`` is left to be done: neither a step nor a file."""


@dataclass(frozen=True)
class Step:
    """Where the run stood when an optimizer step had just been made: the number of steps, the loops, the data."""

    number: int
    epoch: int
    loops: dict[str, Any]
    data: dict[str, Any]


class Checkpoints(ModelCheckpoint):
    """``checkpoints/last.ckpt`` is the newest state of the run, also of its end; ``best-*.ckpt`` the best by ``monitor``.

    Every checkpoint, whenever it is written, holds the state right after an optimizer step: never one in the middle of the
    batches over which a step's gradients are accumulated, nor one after Lightning has closed the epoch. It holds whether the
    validation of that step is still to be made. So a run that is resumed from it is the uninterrupted run.

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
            save_on_train_epoch_end=False,
        )
        self.every_n_steps = every_n_steps
        self.then: Callable[[], None] | None = None
        """Set by a caller that wants this step's state at once, whether one is due or not; called when it is written."""
        self.last_saved = -1
        self._step: Step | None = None
        self._after_validation = False
        self._rows_before: int | None = None
        """Of metrics.csv, when the checkpoint was written from which the run is resumed."""
        self._in_batch = False
        """True from the beginning of a batch of this process until this callback's hook at its end."""
        self._updating = False
        """Inside the update of the weights, when some may have changed and others not."""
        self._swapped: WeightAveraging | None = None
        """The callback that has put averaged weights in the place of the trained ones, for a validation."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if trainer.log_dir is not None:
            self.dirpath = str(Path(trainer.log_dir) / "checkpoints")
        super().setup(trainer, pl_module, stage)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for average in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(average, WeightAveraging):
                self._watch_swaps(average)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        for logger in trainer.loggers:
            if isinstance(logger, MetricsFile) and self._rows_before is not None:
                logger.keep(self._rows_before)
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            (self._last.parent.parent / FINISHED).unlink(missing_ok=True)

    def on_train_batch_start(self, *args: object, **kwargs: object) -> None:
        self._in_batch = True

    def on_before_optimizer_step(self, *args: object, **kwargs: object) -> None:
        self._updating = True

    def on_train_batch_end(self, trainer: L.Trainer, *args: object, **kwargs: object) -> None:
        loop = step_loop(trainer)
        self._in_batch = False
        if not loop.step_made:
            return
        self._remember(trainer)
        due = trainer.global_step % self.every_n_steps == 0 or loop.ends
        loop.withhold_stop()
        self._after_validation = due and loop.validation_owed
        # where the run is stopped, the validation, which may take long, is left to the run that is resumed
        if self.then is not None or (due and not self._after_validation):
            log_step(trainer)
            self.save_last_state(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        loop = step_loop(trainer)
        by_schedule, loop.validation_owed = loop.validation_owed, False
        loop.validated = trainer.global_step
        super().on_validation_end(trainer, pl_module)
        # a validation that is made only because training ends leaves no trace in the state: the run may be made longer
        made_up_for = self._step is None
        if by_schedule and (self._after_validation or made_up_for or self.then is not None or trainer.should_stop):
            self.save_last_state(trainer)
        elif self.then is not None:
            self.then()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.should_stop and self.last_saved != trainer.global_step:
            self.save_last_state(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """A run that dies leaves its last good step, where the weights are still those of it."""
        if trainer.state.fn != "fit" or isinstance(exception, KeyboardInterrupt):
            return
        if self._in_batch and step_is_fresh(trainer):  # another callback failed before this one's hook
            self._remember(trainer)
            log_step(trainer)
        with contextlib.suppress(OSError):  # a full disk may be the reason of the failure
            self.rescue(trainer)

    def rescue(self, trainer: L.Trainer, copied: bool = False) -> None:
        """Write the state of the last step if it is not on disk and still at hand; without waiting for other ranks.

        ``copied``: first into memory, because another thread may continue the training.
        """
        step, saved = self._step, self.last_saved
        if not trainer.is_global_zero or type(trainer.strategy) not in (SingleDeviceStrategy, DDPStrategy):
            return  # with weights in parts, all ranks would have to write
        trained = has_gradient(trainer.lightning_module)
        if step is None or step.number == saved or not trained:  # a prior in closed form changes with every batch
            return

        def is_at_hand() -> bool:
            return step.number == trainer.global_step and not self._updating

        if not is_at_hand() or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        module: Any = trainer.lightning_module
        if self._swapped is not None:
            self._swapped._swap_models(module)
        module.loss_watch.forget()  # a look would wait for the other ranks
        if not all_finite(module.parameters()):  # the run trained on after a loss that was not finite
            return
        checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        if copied:
            checkpoint = apply_to_collection(checkpoint, Tensor, lambda tensor: tensor.detach().to("cpu", copy=True))
            if not is_at_hand():
                return
        trainer.strategy.save_checkpoint(checkpoint, self._last)  # trainer.save_checkpoint waits for all ranks
        self.last_saved = step.number
        rank_zero_info(f"The state after step {step.number} is in {self._last}.")

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """The last of all callbacks, after the one that writes the table; not called where a run dies or is stopped."""
        trained = step_loop(trainer).batch_progress.total.ready > 0  # by this process or those before it
        if stage == "fit" and trained and trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            write_json(self._last.parent.parent / FINISHED, {"step": trainer.global_step})

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Whoever saves, and whenever, saves the last step that was made."""
        checkpoint["validation_owed"] = step_loop(trainer).validation_owed
        checkpoint["metrics_rows"] = 0
        for logger in trainer.loggers:
            if isinstance(logger, MetricsFile):
                logger.save()
                checkpoint["metrics_rows"] = logger.rows
        step = self._step
        if step is not None:
            checkpoint["loops"]["fit_loop"] = step.loops
            checkpoint["epoch"] = step.epoch
            checkpoint[type(trainer.datamodule).__qualname__] = step.data  # type: ignore[attr-defined]

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn != "fit":
            return
        step_loop(trainer).validation_owed = checkpoint["validation_owed"]
        self._rows_before = checkpoint["metrics_rows"]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        before, here = state_dict["dirpath"], self.dirpath
        if before == here:
            super().load_state_dict(state_dict)
        # the best checkpoint of another run's folder is not this run's best
        elif before is not None and here is not None and Path(before).resolve() == Path(here).resolve():
            super().load_state_dict(spelled(state_dict, str(here)))

    def save_last_state(self, trainer: L.Trainer) -> None:
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(self._last, weights_only=False)
            self.last_saved = trainer.global_step
        self._after_validation = False
        if self.then is not None:
            self.then()

    @property
    def _last(self) -> Path:
        assert self.dirpath is not None
        return Path(self.dirpath) / "last.ckpt"

    def _watch_swaps(self, average: WeightAveraging) -> None:
        swap = average._swap_models

        def swap_and_note(module: L.LightningModule) -> None:
            swap(module)
            self._swapped = average if self._swapped is None else None

        average._swap_models = swap_and_note  # type: ignore

    def _remember(self, trainer: L.Trainer) -> None:
        """The loops as they stand now, before they count on."""
        loop = step_loop(trainer)
        loop.validation_owed = loop.validates_by_schedule
        self._updating = False
        data = trainer.datamodule.state_dict()  # type: ignore[attr-defined]
        self._step = Step(trainer.global_step, trainer.current_epoch, trainer.fit_loop.state_dict(), data)


class AtomicCheckpointIO(TorchCheckpointIO):
    """A checkpoint is whole or not there: written under a temporary name, then renamed.

    Lightning's own writes to the temporary folder, and where that lies on another disk copies over the old checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(Path(path)) as temporary, open(temporary, "wb") as file:
            torch.save(checkpoint, file)


def spelled(state: dict[str, Any], folder: str) -> dict[str, Any]:
    """The state of a ModelCheckpoint, whose folder is now written ``folder``: its paths are compared as they are written."""

    def path(old: str) -> str:
        return str(Path(folder) / Path(old).name) if old else old

    names = ("best_model_path", "kth_best_model_path", "last_model_path")
    best = {path(old): score for old, score in state["best_k_models"].items()}
    return {**state, "dirpath": folder, "best_k_models": best, **{name: path(state[name]) for name in names}}


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no number of these tensors is NaN or infinite."""
    norms = torch._foreach_norm([tensor.detach() for tensor in tensors])
    return bool(torch.stack([norm.float() for norm in norms]).isfinite().all())


TRAINING_STATE = ("loops", "callbacks", "optimizer_states", "lr_schedulers", "validation_owed", "metrics_rows")


def require_own(content: dict[str, Any], path: Path, resumes: bool) -> None:
    """Raise ValueError where ``content`` was not written by a fit of ours, or ``resumes`` and it holds weights alone."""
    checkpoint_space(content, path)
    lacks = [name for name in ("global_step", "pytorch-lightning_version") if name not in content]
    if lacks:
        raise ValueError(f"{path} was not written by eclipse_pl: it lacks {' and '.join(lacks)}.")
    if resumes and any(name not in content for name in TRAINING_STATE):
        raise ValueError(
            f"{path} holds weights, and not the state of a training that could be resumed. Begin a new one with them: leave "
            f"--ckpt_path out, and set model.prior.init_args.weights to {path}."
        )
