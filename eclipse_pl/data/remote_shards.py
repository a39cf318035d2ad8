"""The shards behind a URL: their records are downloaded, checked and kept in the node's cache, and mapped from there."""

from __future__ import annotations

import copy
import mmap
import os
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch

from eclipse_pl.data.manifest import MANIFEST_NAME, SPACE_NAME, WHAT_A_SET_IS, Check, Manifest, RecordEntry, ShardEntry
from eclipse_pl.data.pipe_folder import PipeFolder
from eclipse_pl.data.read_ahead import ReadAhead
from eclipse_pl.data.record_cache import CacheError, Claim, FullError, RecordCache
from eclipse_pl.data.remote_folder import NEVER, NoRangesError, RemoteFolder, StoppedError, without_query
from eclipse_pl.data.shard_files import Place, RecordMemory, ShardFiles, open_limits
from eclipse_pl.data.shard_stream import cut_into_cache
from eclipse_pl.embedding import ClipSpace
from eclipse_pl.files import cache_folder

BLOCK = 4 << 20
"""Bytes of a request. A larger record takes several, so that a failed request costs little."""
TRIES = 4
"""Downloads of a record whose bytes are not those that were written."""
POLL = 0.05
"""Seconds between two looks at a record that another process downloads."""
WAIT_FOR_ROOM = 60
"""Seconds that a full cache may take until other processes have used their records."""

RecordName = tuple[str, str]
"""The names of a record's shard and of the record itself: two shards of a merged set may have records of one name."""


@dataclass(frozen=True)
class Downloads:
    """How the records of a remote set are downloaded and kept; EmbeddingDataModule documents the options.

    Raises:
        ValueError: An option is out of its range.
    """

    cache: str | None = None
    cache_gb: float = 50.0
    ahead: int | None = None
    connections: int = 8
    window: int = 16

    def __post_init__(self) -> None:
        least = {"ahead": (self.window if self.ahead is None else self.ahead, 1), "connections": (self.connections, 1)}
        for name, (value, smallest) in least.items():
            if value < smallest:
                raise ValueError(f"data.{name} is {value}; it must be {smallest} or more.")
        if not 0 < self.cache_gb < float("inf"):
            raise ValueError(f"data.cache_gb is {self.cache_gb}; it must be more than 0.")

    @property
    def records_ahead(self) -> int:
        """Two windows, if it is not stated."""
        return 2 * self.window if self.ahead is None else self.ahead

    @property
    def folder(self) -> Path:
        """The folder of the cache."""
        return cache_folder("shards") if self.cache is None else Path(self.cache)


class RemoteShards(ShardFiles):
    """A set of shards behind a URL. Manifest and space are fetched at once, each record when it is needed.

    A process that reads ahead downloads records for all processes of the node, because they share the cache. A process that
    finds a record missing waits while another one downloads it, and otherwise downloads it itself.

    Raises:
        ValueError: Manifest or space cannot be read, or the cache is too small for the records in use.
    """

    def __init__(self, url: str, check: Check, downloads: Downloads) -> None:
        kind = PipeFolder if url.startswith("pipe:") else RemoteFolder
        self.remote = kind(url, downloads.connections)
        if check == "sha256":
            raise ValueError(
                f"data.check is sha256, which reads every byte of a set before the run, but {self.url} is remote. Use size or "
                "record: every record's checksum is tested when it arrives."
            )
        self.downloads = downloads
        try:
            self.manifest = Manifest.parse(self.remote.read(MANIFEST_NAME), self.place(MANIFEST_NAME))
        except ValueError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise ValueError(f"{error} {WHAT_A_SET_IS}") from error
            raise
        space = self.remote.read(SPACE_NAME)
        self.space = ClipSpace.from_bytes(space, self.place(SPACE_NAME), self.manifest.space_sha256)
        self.cache = RecordCache(downloads.folder, downloads.cache_gb)
        self._open: WeakValueDictionary[RecordName, mmap.mmap] = WeakValueDictionary()
        self._ahead: list[ReadAhead[RecordName, mmap.mmap]] = []
        self._process = os.getpid()
        self._of_parent: list[RemoteFolder] = []
        self._places: dict[RecordName, Place] = {}
        self.open_records = self._open_records()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None, "_ahead": [], "_places": {}, "_of_parent": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open = WeakValueDictionary()

    @property
    def url(self) -> str:
        """The URL for messages."""
        return without_query(self.remote.url)

    def place(self, name: str) -> str:
        return self.remote.shown(self.remote.place(name))

    def record(self, place: Place) -> RecordMemory:
        shard, entry = place
        self._leave_parent()
        taken = (ahead.take(_name(place)) for ahead in self._ahead)
        memory = next((memory for memory in taken if memory), None) or self._get(shard, entry, NEVER)
        self._open[_name(place)] = memory
        return RecordMemory(memory, entry.span[0])

    def read_ahead(self, places: Iterable[Place]) -> ReadAhead[RecordName, mmap.mmap]:
        self._leave_parent()
        ahead = ReadAhead(self._get_by_name, self._names(places), self.downloads.records_ahead, self.downloads.connections)
        self._ahead = [other for other in self._ahead if not other.closed]
        self._ahead.append(ahead)
        return ahead

    def passed(self, place: Place) -> None:
        for ahead in self._ahead:
            ahead.passed(_name(place))

    def _leave_parent(self) -> None:
        """A process that was forked has none of its parent's threads, and opens connections of its own.

        Those of the parent are kept: to close them here would take them from its event loop, which both share (epoll).
        """
        if self._process != os.getpid():
            self._process = os.getpid()
            self._ahead = []
            self._of_parent.append(self.remote)
            self.remote = copy.copy(self.remote)

    def _names(self, places: Iterable[Place]) -> Iterator[RecordName]:
        for place in places:
            self._places[_name(place)] = place
            yield _name(place)

    def _get_by_name(self, name: RecordName, stopped: threading.Event) -> mmap.mmap:
        return self._open.get(name) or self._get(*self._places[name], stopped)

    def _get(self, shard: ShardEntry, entry: RecordEntry, stopped: threading.Event) -> mmap.mmap:
        """The record from the cache, or else from the server."""
        # the main process has checked the records of a batch before a worker reads them
        check = torch.utils.data.get_worker_info() is None
        full_since: float | None = None
        while not stopped.is_set():
            if memory := self.cache.open(entry, check):
                return memory
            try:
                if not self.remote.has_ranges:
                    if memory := self._from_whole_shard(shard, entry, stopped):
                        return memory
                elif claim := self.cache.claim(entry):
                    with claim:
                        return self._from_range(shard, entry, claim, stopped)
            except NoRangesError:
                continue
            except FullError:
                full_since = full_since or time.monotonic()
                if time.monotonic() - full_since > WAIT_FOR_ROOM:
                    raise
            stopped.wait(POLL)
        raise StoppedError

    def _from_range(self, shard: ShardEntry, entry: RecordEntry, claim: Claim, stopped: threading.Event) -> mmap.mmap:
        first, end = entry.span
        for _ in range(TRIES):
            claim.restart()
            for start in range(first, end, BLOCK):
                claim.write(self.remote.read(shard.name, start, min(start + BLOCK, end), stopped))
            if memory := claim.finish():
                return memory
        raise self._other_bytes(shard, entry)

    def _from_whole_shard(self, shard: ShardEntry, entry: RecordEntry, stopped: threading.Event) -> mmap.mmap | None:
        """The record, after all records of its shard were read into the cache; None if another thread is at it."""
        self._require_room_for_all()
        if (lock := self.cache.lock(shard.sha256)) is None:
            return None
        try:
            for _ in range(TRIES):
                if memory := self.cache.open(entry):
                    return memory
                self.remote.try_often(
                    shard.name, lambda: cut_into_cache(self.remote, shard, self.cache, stopped), stopped, final=(CacheError,)
                )
            if memory := self.cache.open(entry):
                return memory
        finally:
            self.cache.unlock(shard.sha256, lock)
        raise self._other_bytes(shard, entry)

    def _other_bytes(self, shard: ShardEntry, entry: RecordEntry) -> ValueError:
        return ValueError(
            f"The record {entry.key} of the shard {self.place(shard.name)} arrived {TRIES} times with other bytes than were "
            f"written (sha256 differs). Repair the set with `{self.manifest.made_by}` and upload it again."
        )

    def _open_records(self) -> int:
        """Number of records that a process keeps open, which cannot be removed from the cache as long as they are.

        Those of two windows are needed, because the rest of a window is read in the next one. More are open while the cache
        has room, also for other runs.

        Raises:
            ValueError: The cache does not hold the records of the present windows and those ahead.
        """
        sizes, window = self._sizes(), self.downloads.window
        largest = max(sizes, default=1)
        records = 2 * self.downloads.records_ahead + 3 * window
        needed = min(sum(sizes), records * largest)
        if needed > self.cache.limit:
            raise ValueError(
                f"data.cache_gb is {self.downloads.cache_gb}, but up to {records} records of {self.url} are in use at "
                f"a time, which take {needed / 1e9:.3g} GB. Set data.cache_gb to that or more, or data.ahead or data.window "
                "to less."
            )
        spare = max(0, self.cache.limit // largest - records)
        return min(2 * window + spare // 8, max(2 * window, open_limits()[1]))

    def _require_room_for_all(self) -> None:
        total = sum(self._sizes())
        if total > self.cache.limit:
            raise ValueError(
                f"{self.url} sends whole files only, no ranges of bytes, so that the cache must hold the whole set: "
                f"{total / 1e9:.3g} GB, and data.cache_gb is {self.downloads.cache_gb}. Set it to more, or use a server with "
                "range requests."
            )

    def _sizes(self) -> list[int]:
        return [end - first for shard in self.manifest.shards for first, end in (record.span for record in shard.records)]


def _name(place: Place) -> RecordName:
    shard, entry = place
    return shard.name, entry.key
