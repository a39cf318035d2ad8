"""Processes that train together end together."""

from __future__ import annotations

import math
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning.pytorch.trainer.states import RunningStage
from torch.distributed.distributed_c10d import _get_default_store

from eclipse_pl.callbacks.checkpoints import Checkpoints
from eclipse_pl.callbacks.life import BEAT, SILENCE, SignsOfLife

LOOKS = 0.3
"""Seconds between two looks for a failure."""
GRACE = 2.0
"""Seconds that a process has to come to its end by itself, when another one has failed."""
RESCUE = 30.0
"""Seconds that the first rank has to write the last good step."""


WARNED = 1 / 30
"""Part of the strategy's timeout after which a rank for which the others wait is named: one minute of 30."""
ENDED = 0.9
"""Part of the strategy's timeout after which such a rank ends the run, before the backend does without naming it."""


class FailTogether(L.Callback):
    """A rank that fails ends all of them within seconds, with its sentence and exit code 1.

    The others would wait for it: in a collective, for minutes or for ever. The rank that fails first writes its error to the
    store through which the processes found each other. A thread of every other rank reads the store, writes the last good
    step (the first rank), and ends its process, whose main thread may be where no exception reaches it.

    A rank that is killed or late cannot write anything. The first rank names it by its `SignsOfLife`, and if the first rank
    is the one that was killed, the next rank and the first of each other node do.
    """

    def __init__(self) -> None:
        self._store: Any = None
        self._signs: Any = None
        self._ended = threading.Event()
        """This rank needs nobody to watch it: it has ended well, or comes to its end by itself."""
        self._silent = threading.Event()
        """This rank gives no more signs of life."""
        self._named: list[int] = []
        self.failed_in: RunningStage | None = None
        """What the trainer did when an error ended it, which it forgets."""
        self.interrupted = False
        """Ctrl-C ended the trainer, which makes exit code 1 of it."""

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self.failed_in = trainer.state.stage
        self.interrupted = isinstance(exception, KeyboardInterrupt)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if trainer.world_size > 1 and dist.is_initialized() and self._store is None:
            self._store = dist.PrefixStore("eclipse_pl", _get_default_store())
            self._signs = SignsOfLife(self._store, trainer.global_rank, trainer.world_size)
            self._speaks = trainer.local_rank == 0 or trainer.global_rank == 1
            forget_other_processes()  # Lightning would kill this one before it has named the one that died
            threading.Thread(target=self._watch, args=(trainer,), daemon=True).start()

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._move("at training batch {} of epoch {}", batch_idx, trainer.current_epoch)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._move("after training batch {} of epoch {}", batch_idx, trainer.current_epoch)

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int, *args: Any, **kwargs: Any
    ) -> None:
        self._move("at evaluation batch {}", batch_idx)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, *args: Any, **kwargs: Any
    ) -> None:
        self._move("after evaluation batch {}", batch_idx)

    on_test_batch_start, on_test_batch_end = on_validation_batch_start, on_validation_batch_end

    def _move(self, place: str, *numbers: int) -> None:
        if self._signs is not None:
            self._signs.move(place, *numbers)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._end()

    @contextmanager
    def guard(self, trainer: L.Trainer) -> Iterator[None]:
        """Around all that the ranks do together.

        Raises:
            SystemExit: The work failed on several ranks; the one that failed first prints why.
        """
        try:
            yield
        except SystemExit:  # the ranks have agreed on it
            self._end()
            forget_other_processes()
            raise
        except Exception as error:
            if self._store is None:
                raise
            self._ended.set()
            reason = self._reason(error)
            first = self._is_first()
            if trainer.is_global_zero:
                self._see_others_off(trainer.world_size)
            else:
                self._go(RESCUE if first else 0.0)
            if not (self._speaks if first is None else first):
                raise SystemExit(1) from None
            if reason is not None:
                raise SystemExit(f"error: {reason}") from None
            raise

    def _end(self) -> None:
        """This rank has nothing left to do with the others, some of which may still work."""
        self._ended.set()
        self._silent.set()
        if self._signs is not None:
            with suppress(RuntimeError):
                self._signs.say_goodbye()

    def _reason(self, error: Exception) -> str | None:
        """The sentence of an error that needs no traceback. If another rank has died, it waits for who it is."""
        if isinstance(error, RuntimeError) and BROKEN.search(str(error)):
            with suppress(RuntimeError):
                if self._store.check(["failed"]):
                    return None
                dead = self._signs.dead_now()
                late = self._signs.late(0.0)
                if not dead and late:
                    return self._late_sentence(late)
                return died(", ".join(map(self._signs.name, dead)) or "another process of this run")
            return died("rank 0")
        return str(error) if isinstance(error, (ValueError, OSError)) else None

    def _late_sentence(self, late: list[int]) -> str:
        first = late[0]
        more = f" (and {len(late) - 1} more)" * (len(late) > 1)
        return f"{self._signs.name(first)}{more} keeps the others waiting: it is {self._signs.where(first)}."

    def _is_first(self) -> bool | None:
        """Report a failure to the other ranks; return whether none was reported before. None: no rank keeps the store."""
        with suppress(RuntimeError):
            first = self._store.add("failures", 1) == 1
            if first:
                self._store.set("failed", "")
            return bool(first)
        return None

    def _see_others_off(self, ranks: int) -> None:
        """The first rank goes last, because it keeps the store."""
        self._store.set("rescued", "")
        end = time.monotonic() + GRACE + 2 * LOOKS
        while self._store.add("gone", 0) < ranks - 1 and time.monotonic() < end:
            time.sleep(LOOKS / 3)

    def _go(self, patience: float) -> None:
        """The last that this rank does with the store, when the first one has written the last good step."""
        end = time.monotonic() + patience
        with suppress(RuntimeError):
            while time.monotonic() < end and not self._store.check(["rescued"]):
                time.sleep(LOOKS)
            self._silent.set()
            self._signs.say_goodbye()
            self._store.add("gone", 1)

    def _watch(self, trainer: L.Trainer) -> None:
        patience = getattr(trainer.strategy, "_timeout", None)
        seconds = math.inf if patience is None else patience.total_seconds()
        while not self._silent.wait(LOOKS):
            try:
                self._signs.send()
                if self._ended.is_set():
                    continue
                failed = self._store.check(["failed"])
                if not failed and trainer.is_global_zero:
                    judged = self._judged(seconds)
                    failed = judged is not None and bool(self._is_first())
                    if failed:  # at once: the main thread may come out of its collective, and then has nothing to say
                        print(f"error: {judged}", file=sys.stderr, flush=True)
            except RuntimeError:  # the first rank is gone
                if not self._ended.wait(GRACE):
                    self._leave(trainer, died("rank 0") if self._speaks else None)
                return
            if failed and not self._ended.wait(GRACE):
                self._leave(trainer, None)

    def _judged(self, seconds: float) -> str | None:
        """Why the run is to end, because of what other ranks show; warn where it may have to."""
        self._signs.hear()
        if dead := self._signs.dead():
            return died(", ".join(map(self._signs.name, dead)), f" It gave no sign of life for {SILENCE:g} s.")
        if late := self._signs.late(seconds * ENDED):
            limit = f"That has taken {seconds * ENDED:g} s, and the timeout of the strategy is {seconds:g} s."
            return f"{self._late_sentence(late)} {limit}"
        late = self._signs.late(max(seconds * WARNED, 3 * BEAT))  # the place in a sign of life is up to a beat old
        if late and late != self._named:
            print(f"{self._late_sentence(late)} After {seconds * ENDED:g} s that ends the run.", file=sys.stderr, flush=True)
        self._named = late
        return None

    def _leave(self, trainer: L.Trainer, reason: str | None) -> None:
        if reason is not None:
            print(f"error: {reason}", file=sys.stderr, flush=True)
        if trainer.is_global_zero:
            rescue = threading.Thread(target=rescue_beside_the_main_thread, args=(trainer,), daemon=True)
            rescue.start()
            rescue.join(RESCUE)
            self._see_others_off(trainer.world_size)
        else:
            self._go(0.0)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


BROKEN = re.compile(r"gloo|nccl|connection (closed|reset)", re.IGNORECASE)
"""In errors of a collective, whose cause is another rank."""


def died(who: str, more: str = "") -> str:
    return f"{who} was killed or has died.{more} All processes end; the last checkpoint is whole."


def rescue_beside_the_main_thread(trainer: L.Trainer) -> None:
    device = trainer.strategy.root_device
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # the current one waits for the rank that failed
    with torch.cuda.stream(stream), suppress(OSError):
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, Checkpoints):
                callback.rescue(trainer, copied=True)


def forget_other_processes() -> None:
    """Lightning kills the process that started the others when one of them has ended with an exit code, in whatever order."""
    for thread in threading.enumerate():
        if isinstance(thread, _ChildProcessObserver):
            thread._child_processes = []
