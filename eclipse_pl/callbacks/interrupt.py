from __future__ import annotations

import shlex
import signal
import threading
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from eclipse_pl.callbacks.checkpoints import Checkpoints
from eclipse_pl.callbacks.slurm import forget_job, note_job, requeue_job
from eclipse_pl.callbacks.together import forget_other_processes
from eclipse_pl.training.loop import step_loop

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals(_SignalConnector):
    """In place of Lightning's handlers, which end a run by SIGTERM with exit code 0 and without a checkpoint.

    The first signal is only noted, for the end of the step; the same signal again has its usual effect.
    """

    received = 0
    """The number of the signal that asks for the end; 0 is none."""
    requeues = 0
    """The signal with which SLURM announces the end of a job's time, where it is to be queued again; 0 is none."""

    def register_signal_handlers(self) -> None:
        if threading.current_thread() is not threading.main_thread() or self.trainer.state.fn != "fit":
            return
        environment = self.trainer._accelerator_connector.cluster_environment
        if isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
            self.requeues = int(environment.requeue_signal or signal.SIGUSR1)
        for number in (*STOPPING, *([self.requeues] if self.requeues else [])):
            before = signal.getsignal(number)
            if not (number == signal.SIGHUP and before == signal.SIG_IGN):  # as nohup sets it
                self._original_handlers[number] = before
                signal.signal(number, self._note)

    def _note(self, number: int, frame: Any) -> None:
        self.received = self.received or number
        signal.signal(number, self._original_handlers.pop(number))  # type: ignore[arg-type]
        name = signal.Signals(number).name
        rank_zero_info(f"{name}: writing a checkpoint after this step. {name} again stops at once.")


class Interrupt(L.Callback):
    """Ctrl-C, SIGTERM and SIGHUP end the step, write ``last.ckpt`` and stop with the signal's exit code.

    A second one stops at once. Ranks agree on the step and on the signal, because a terminal sends it to all of them at
    slightly different times, and others send it to one of them. A job of SLURM that is to be queued again is, and resumes
    by itself (`requeued_run`).
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._signals = trainer._signal_connector = Signals(trainer)
        self._votes: Votes | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._votes = Votes() if trainer.world_size > 1 else None
        folder = trainer.log_dir  # rank 0 broadcasts it, so every rank must read it
        if trainer.is_global_zero and folder is not None:
            note_job(Path(folder))

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        if step_loop(trainer).step_made:
            self._agree(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._agree(trainer, at_once=True)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Nothing is left to be saved, so a signal ends the rest at once."""
        if self._votes is not None:
            self._votes.close()
        self._signals.teardown()
        folder = trainer.log_dir
        if trainer.is_global_zero and folder is not None:
            forget_job(Path(folder))

    def _agree(self, trainer: L.Trainer, at_once: bool = False) -> None:
        number = self._signals.received
        if self._votes is not None:
            number = self._votes.cast(number, at_once)
        if number:
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, Checkpoints):
                    callback.then = lambda: self._stop(trainer, number)

    def _stop(self, trainer: L.Trainer, number: int) -> None:
        """The step has been logged and saved."""
        run = Path(str(trainer.log_dir))
        stopped = f"Stopped by {signal.Signals(number).name} after step {trainer.global_step}."
        if number == self._signals.requeues:
            if trainer.is_global_zero:
                rank_zero_info(f"{stopped} {requeue_job()}")
        else:
            config, folder = shlex.quote(str(run / "config.yaml")), shlex.quote(str(run))
            rank_zero_info(f"{stopped} Resume with: python -m eclipse_pl fit --config {config} --ckpt_path {folder}")
        forget_other_processes()
        raise SystemExit(128 + number)  # as a shell reports a program that the signal ended


class Votes:
    """The ranks agree on the largest number of any of them, which all learn one step later.

    They ask each other through the host, beside the step, so that no step waits for the device or for the slowest rank.
    """

    def __init__(self) -> None:
        self._group: Any = dist.new_group(backend="gloo")
        self._pending: tuple[torch.Tensor, Any] | None = None

    def cast(self, number: int, at_once: bool = False) -> int:
        """Give this rank's number, and return what all agreed on at the call before; ``at_once``: at this one."""
        agreed = self._result()
        vote = torch.tensor(number)
        self._pending = vote, dist.all_reduce(vote, dist.ReduceOp.MAX, self._group, async_op=True)
        return max(agreed, self._result()) if at_once else agreed

    def close(self) -> None:
        """Wait for the vote that is under way."""
        self._result()

    def _result(self) -> int:
        if self._pending is None:
            return 0
        (vote, work), self._pending = self._pending, None
        work.wait()
        return int(vote)
