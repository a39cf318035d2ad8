"""A shard that is read as one stream, because its server knows no ranges: its records are cut into the cache."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, nullcontext

from eclipse_pl.data.manifest import ShardEntry
from eclipse_pl.data.record_cache import RecordCache
from eclipse_pl.data.remote_folder import RemoteFolder, StoppedError

WAIT = 0.01
"""Seconds between two looks at a record that another thread has claimed."""


def cut_into_cache(remote: RemoteFolder, shard: ShardEntry, cache: RecordCache, stopped: threading.Event) -> None:
    """Read a shard once, and keep the records that are not in the cache yet. A damaged record is left out.

    Raises:
        OSError: The stream ends early.
        StoppedError: ``stopped`` was set.
    """
    with closing(remote.stream(shard.name)) as blocks:
        stream = _Stream(blocks)
        for entry in sorted(shard.records, key=lambda record: record.span):
            first, end = entry.span
            for _ in stream.until(first):
                pass
            # a thread that claimed it before it knew that there are no ranges gives it back soon
            while (claim := cache.claim(entry)) is None and cache.open(entry) is None:
                if stopped.wait(WAIT):
                    raise StoppedError
            with claim or nullcontext():
                for part in stream.until(end):
                    if stopped.is_set():
                        raise StoppedError
                    if claim is not None:
                        claim.write(part)
                if claim is not None:
                    claim.finish()


class _Stream:
    """Blocks of bytes, cut at any place."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._rest = memoryview(b"")
        self._position = 0

    def until(self, end: int) -> Iterator[memoryview]:
        """The bytes up to ``end``, which lies behind those that were read."""
        while self._position < end:
            if not self._rest:
                self._rest = memoryview(next(self._blocks, b""))
            if not self._rest:
                raise OSError(f"the stream ended after {self._position} bytes")
            part, self._rest = self._rest[: end - self._position], self._rest[end - self._position :]
            self._position += len(part)
            yield part
