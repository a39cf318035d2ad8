"""Shared memory for batches from the workers. It is reused.

New shared memory costs a page fault for every 4 KiB, which is many times slower than the copy (measured on a virtual
machine: 1.3 GB/s into new memory, 16 GB/s into used memory). A worker writes a batch into a slot. The main process returns a
view on that slot. When the last view is deleted, the slot is free again.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
import weakref
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np
import torch
from jaxtyping import Float16
from torch import Tensor


class Slots:
    """``count`` slots of ``numbers`` float16 values each, in one file without a name.

    The system allocates a page when it is first written, so slots can have the size of the longest captions. The file is not
    in ``/dev/shm``, which is often small in containers.
    """

    def __init__(self, count: int, numbers: int) -> None:
        self._count = count
        self._bytes = -(-2 * numbers // mmap.PAGESIZE) * mmap.PAGESIZE
        self._file = anonymous_file(count * self._bytes)
        self._map = mmap.mmap(self._file, count * self._bytes)
        weakref.finalize(self, os.close, self._file)
        self._in_flight: set[int] = set()
        self._in_use: set[int] = set()

    def __getstate__(self) -> dict[str, Any]:
        """State for a worker that is spawned. Only the main process knows which slots are in use."""
        return {"count": self._count, "bytes": self._bytes, "file": DupFd(self._file)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._count, self._bytes = state["count"], state["bytes"]
        self._file = state["file"].detach()
        self._map = mmap.mmap(self._file, self._count * self._bytes)
        self._in_flight, self._in_use = set(), set()

    def take(self) -> int | None:
        """Take a free slot, which is then in flight; None if all slots are occupied."""
        taken = self._in_flight | self._in_use
        slot = next((slot for slot in range(self._count) if slot not in taken), None)
        if slot is not None:
            self._in_flight.add(slot)
        return slot

    def memory(self, slot: int) -> Float16[np.ndarray, " numbers"]:
        """The memory that the worker writes to."""
        return np.frombuffer(self._map, np.float16, self._bytes // 2, slot * self._bytes)

    def open(self, slot: int) -> Float16[Tensor, " numbers"]:
        """The memory that the main process reads. The slot stays occupied while a tensor shares it."""
        owner = (ctypes.c_uint8 * self._bytes).from_buffer(self._map, slot * self._bytes)
        self._in_flight.discard(slot)
        self._in_use.add(slot)
        weakref.finalize(owner, self._in_use.discard, slot).atexit = False
        return torch.frombuffer(owner, dtype=torch.float16)

    def forget_in_flight(self) -> None:
        """Call this when the workers are idle. If an epoch ended early, its batches in flight never arrive."""
        self._in_flight.clear()


def anonymous_file(size: int) -> int:
    """Descriptor of a file, in memory if the system can do so. It disappears with its last user."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("eclipse_pl batches")
    else:
        with tempfile.TemporaryFile() as temporary:
            file = os.dup(temporary.fileno())
    os.ftruncate(file, size)
    return file
