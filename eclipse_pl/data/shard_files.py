"""The files of a set of shards: where the bytes of a record come from."""

from __future__ import annotations

import mmap
import resource
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eclipse_pl.data.manifest import SPACE_NAME, Check, Manifest, RecordEntry, ShardEntry
from eclipse_pl.embedding import ClipSpace

OPEN_SHARDS, OPEN_RECORDS = 128, 512
"""Shards and records that a reader keeps open, at most: enough for two windows of records."""

Place = tuple[ShardEntry, RecordEntry]
"""A record and its shard."""


class RecordMemory(NamedTuple):
    """Memory that holds a record, and the byte of the shard that it begins with."""

    bytes: mmap.mmap
    first: int


class ShardFiles(ABC):
    """Manifest and space of a set, and the bytes of its records. It pickles without open files."""

    manifest: Manifest
    space: ClipSpace
    open_records: int
    """Number of records that a reader keeps open."""

    @abstractmethod
    def place(self, name: str) -> str:
        """Path or URL of a file, for messages."""

    @abstractmethod
    def record(self, place: Place) -> RecordMemory:
        """The bytes of a record. A record is open as long as this memory lives.

        Raises:
            ValueError: The record cannot be had.
        """

    def read_ahead(self, places: Iterable[Place]) -> AbstractContextManager[Any]:
        """While the block lasts, records are made ready in this order, before their use. The order may be endless."""
        return nullcontext()

    def passed(self, place: Place) -> None:  # noqa: B027 (local shards need no note)
        """Note that a record is used that is open already, so that the next ones are read ahead."""

    def close(self) -> None:  # noqa: B027 (remote records are closed with their memory)
        """Close the files that are open. Reading opens them again."""


class LocalShards(ShardFiles):
    """A folder of this machine. Shards are mapped as they are.

    Raises:
        ValueError: A file is missing, or a shard fails the check.
    """

    def __init__(self, folder: Path, check: Check) -> None:
        self.folder = folder
        self.open_shards, self.open_records = open_limits()
        self.manifest = Manifest.load(folder)
        self.space = ClipSpace.load(folder / SPACE_NAME, self.manifest.space_sha256)
        self._maps: OrderedDict[str, mmap.mmap] = OrderedDict()
        for shard in self.manifest.shards:
            self._require_sound(shard, check)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": OrderedDict()}

    def place(self, name: str) -> str:
        return str(self.folder / name)

    def record(self, place: Place) -> RecordMemory:
        shard, _ = place
        if shard.name in self._maps:
            self._maps.move_to_end(shard.name)
            return RecordMemory(self._maps[shard.name], 0)
        self._require_sound(shard, "size")  # again: a read beyond the end of a file that shrank kills the process
        with open(self.folder / shard.name, "rb") as file:
            self._maps[shard.name] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if len(self._maps) > self.open_shards:
            self._maps.popitem(last=False)
        return RecordMemory(self._maps[shard.name], 0)

    def close(self) -> None:
        self._maps.clear()

    def _require_sound(self, shard: ShardEntry, check: Check) -> None:
        if problem := shard.problem(self.folder, check):
            raise ValueError(f"The shard {self.place(shard.name)} {problem}. Repair it with `{self.manifest.made_by}`.")


def open_limits() -> tuple[int, int]:
    """Number of shards and of records that a reader keeps open: each may be an open file, and the process has others."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return OPEN_SHARDS, OPEN_RECORDS
    return max(1, min(OPEN_SHARDS, files // 8)), max(1, min(OPEN_RECORDS, files // 2))


def places_of(manifest: Manifest) -> tuple[list[Place], np.ndarray]:
    """All records of a set in the order of its manifest, and the number of each one's shard."""
    placed = [(number, shard, record) for number, shard in enumerate(manifest.shards) for record in shard.records]
    return [(shard, record) for _, shard, record in placed], np.array([number for number, _, _ in placed], dtype=np.int64)
