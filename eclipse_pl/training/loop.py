"""Lightning's training loop, in which everything that belongs to a step happens where an optimizer step was just made.

Lightning's own validates, logs, saves and stops after any batch, also in the middle of a step whose gradients are accumulated
over several batches, and does not validate where training ends. The private names of Lightning 2.6 that this needs are used
in this file alone.
"""

from __future__ import annotations

import time
from typing import Any

import lightning as L
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop


class StepLoop(_TrainingEpochLoop):
    """The batches of an epoch; validates and stops only where a step was made, and validates where training ends."""

    validation_owed = False
    """Whether the validation of the step just made, or of the step of the checkpoint that was loaded, is still to come."""
    validated = -1
    """The number of steps behind the last validation."""
    waited_seconds = 0.0
    """Time that the loop has waited for batches."""
    _stop_withheld = False
    _asked = 0.0

    @property
    def done(self) -> bool:
        return self.step_made and super().done

    def withhold_stop(self) -> None:
        """Until the step has been logged: where a run is to stop, Lightning logs steps that are not to be logged."""
        self._stop_withheld, self.trainer.should_stop = self.trainer.should_stop, False

    def on_advance_end(self, data_fetcher: Any) -> None:
        self.trainer.should_stop |= self._stop_withheld
        self._stop_withheld = False
        super().on_advance_end(data_fetcher)

    def _broadcast_sigterm_tensor(self) -> None:
        """Lightning's ranks ask each other before every batch, and wait for the device. `Interrupt` makes them agree."""

    def _on_before_fetch(self) -> None:
        super()._on_before_fetch()
        self._asked = time.perf_counter()

    def _on_after_fetch(self) -> None:
        self.waited_seconds += time.perf_counter() - self._asked
        super()._on_after_fetch()

    @property
    def step_made(self) -> bool:
        """Whether no gradients wait for the rest of a step."""
        return not self._should_accumulate()

    @property
    def ends(self) -> bool:
        """Whether training ends with this step, for whatever reason."""
        fit, most = self.trainer.fit_loop, self.trainer.fit_loop.max_epochs
        last_epoch = most is not None and 0 <= most <= epochs_done(fit) + 1
        return (
            0 <= self.max_steps <= self.global_step
            or (last_epoch and self._num_ready_batches_reached())
            or (self.trainer.should_stop and fit._can_stop_early)
        )

    @property
    def validates_by_schedule(self) -> bool:
        """Whether a validation is due after this step, also in a run that does not end at this step."""
        trainer = self.trainer
        if not self.step_made or not self._should_check_val_epoch():
            return False
        if getattr(trainer, "_val_check_time_interval", None) is not None:
            assert trainer.fit_loop._data_fetcher is not None
            return super()._should_check_val_fx(trainer.fit_loop._data_fetcher)
        every = trainer.val_check_batch
        if every is None or every == float("inf"):
            return self.batch_progress.is_last_batch
        batches = 1 + (self.total_batch_idx if trainer.check_val_every_n_epoch is None else self.batch_idx)
        of_step = 1 + (self.batch_progress.current.ready - 1) % trainer.accumulate_grad_batches
        return batches // every > (batches - of_step) // every

    def _should_check_val_fx(self, data_fetcher: Any) -> bool:
        return self.validates_by_schedule or (self.step_made and self.trainer.enable_validation and self.ends)


class TrainingLoop(_FitLoop):
    """The epochs. A run that is resumed makes up for the validation that its checkpoint owes, and every run ends with one."""

    epoch_loop: StepLoop

    def __init__(self, trainer: L.Trainer) -> None:
        """In place of the loop that ``trainer`` was made with, with its limits."""
        before = trainer.fit_loop
        super().__init__(trainer, before.min_epochs, before.max_epochs)
        self.epoch_loop = StepLoop(trainer, before.min_steps, before.max_steps)
        trainer.fit_loop = self

    @property
    def skip(self) -> bool:
        """Where nothing will ever be trained. Not where nothing is left to train: such a run still ends with its validation,
        its table and its benchmark.
        """
        nothing = self.max_batches == 0 or self.trainer.limit_train_batches == 0
        return nothing or (self.over and not self._loaded_from_state_dict)

    @property
    def over(self) -> bool:
        """The value of `done`, without its messages."""
        loop, most = self.epoch_loop, self.max_epochs
        return (
            0 <= loop.max_steps <= loop.global_step
            or (most is not None and 0 <= most <= epochs_done(self))
            or (self.trainer.should_stop and self._can_stop_early)
        )

    def reset(self) -> None:
        """Only after the validation that is made up for: it belongs to the epoch and the step of the checkpoint."""
        if not self._validates_first:
            super().reset()

    def on_run_start(self) -> None:
        first = self._validates_first
        super().on_run_start()
        if first:
            self._validate()
            super().reset()

    def on_run_end(self) -> None:
        if self.epoch_loop.validated != self.epoch_loop.global_step:  # it was stopped at the end of an epoch
            self._validate()
        super().on_run_end()

    @property
    def _validates_first(self) -> bool:
        return self.epoch_loop.validation_owed or (self._loaded_from_state_dict and self.over)

    def _validate(self) -> None:
        """As after a step, whose number its metrics get."""
        trainer, loop = self.trainer, self.epoch_loop
        if not trainer.enable_validation:
            return
        stepped, loop._batches_that_stepped = loop._batches_that_stepped, max(loop.global_step - 1, 0)
        first, loop.val_loop.restarting = trainer._logger_connector._first_loop_iter, False
        trainer.validating = True
        loop.val_loop.run()
        trainer.training = True
        trainer._logger_connector._first_loop_iter = first
        loop._batches_that_stepped = stepped


def epochs_done(loop: _FitLoop) -> int:
    progress: Any = loop.epoch_progress.current
    return int(progress.processed)


def step_loop(trainer: L.Trainer) -> StepLoop:
    loop = trainer.fit_loop.epoch_loop
    assert isinstance(loop, StepLoop)
    return loop


def ends_step(trainer: L.Trainer) -> bool:
    """Whether an optimizer step follows the batch that is worked on, or was just made with it."""
    return not trainer.fit_loop._should_accumulate()


def step_is_logged(trainer: L.Trainer) -> bool:
    """Whether the step that is being made, or was just made, goes to the loggers. Only there may it wait for the device."""
    every, done = trainer.log_every_n_steps, trainer.fit_loop.epoch_loop._batches_that_stepped  # type: ignore[attr-defined]
    return bool(trainer.fast_dev_run or (every and (done + 1) % every == 0))  # type: ignore[attr-defined]


def log_step(trainer: L.Trainer) -> None:
    """Log the step just made, where one is to be logged, before Lightning does so (which then writes nothing new)."""
    trainer._logger_connector.update_train_step_metrics()


def step_is_fresh(trainer: L.Trainer) -> bool:
    """Whether a step was just made, and the hooks of the callbacks run."""
    loop = step_loop(trainer)
    batches: Any = loop.batch_progress.total
    return loop.step_made and batches.ready == batches.processed == batches.completed + 1
