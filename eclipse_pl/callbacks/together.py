"""Processes that train together end together."""

from __future__ import annotations

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
from torch.distributed.distributed_c10d import _get_default_store

from eclipse_pl.callbacks.checkpoints import Checkpoints

LOOKS = 0.3
"""Seconds between two looks for a failure."""
GRACE = 2.0
"""Seconds that a process has to come to its end by itself, when another one has failed."""
RESCUE = 30.0
"""Seconds that the first rank has to write the last good step."""


class FailTogether(L.Callback):
    """A rank that fails ends all of them within seconds, with its sentence and exit code 1.

    The others would wait for it: in a collective, for minutes or for ever. The rank that fails first writes its error to the
    store through which the processes found each other. A thread of every other rank reads the store, writes the last good
    step (the first rank), and ends its process, whose main thread may be where no exception reaches it.
    """

    def __init__(self) -> None:
        self._store: Any = None
        self._ended = threading.Event()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if trainer.world_size > 1 and dist.is_initialized() and self._store is None:
            self._store = dist.PrefixStore("eclipse_pl", _get_default_store())
            threading.Thread(target=self._watch, args=(trainer,), daemon=True).start()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._ended.set()

    @contextmanager
    def guard(self, trainer: L.Trainer) -> Iterator[None]:
        """Around all that the ranks do together.

        Raises:
            SystemExit: The work failed on several ranks; the one that failed first prints why.
        """
        try:
            yield
        except SystemExit:  # the ranks have agreed on it
            self._ended.set()
            forget_other_processes()
            raise
        except Exception as error:
            if self._store is None:
                raise
            self._ended.set()
            forget_other_processes()
            first = self._is_first()
            if trainer.is_global_zero:
                self._see_others_off(trainer.world_size)
            else:
                self._go(RESCUE if first else 0.0)
            if not first:
                raise SystemExit(1) from None
            if isinstance(error, (ValueError, OSError)):
                raise SystemExit(f"error: {error}") from None
            if isinstance(error, RuntimeError) and re.search(
                r"gloo|nccl|connection (closed|reset)", str(error), re.IGNORECASE
            ):
                raise SystemExit("error: another process of this run was killed; the last checkpoint is whole.") from None
            raise

    def _is_first(self) -> bool:
        """Report the failure to the other ranks; return whether none has failed before."""
        with suppress(RuntimeError):  # the rank that kept the store is gone
            first = self._store.add("failures", 1) == 1
            if first:
                self._store.set("failed", "")
            return bool(first)
        return False

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
            self._store.add("gone", 1)

    def _watch(self, trainer: L.Trainer) -> None:
        while not self._ended.wait(LOOKS):
            try:
                failed = self._store.check(["failed"])
            except RuntimeError:  # the first rank is gone
                failed = True
            if failed and not self._ended.wait(GRACE):
                self._leave(trainer)

    def _leave(self, trainer: L.Trainer) -> None:
        forget_other_processes()
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
