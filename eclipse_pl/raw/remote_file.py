"""RemoteFile: a file behind a URL that fsspec reads and webdataset does not, such as ``s3:``, read by ranges of bytes."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

from eclipse_pl.data.remote_folder import RemoteFolder

BLOCK = 1 << 24
"""Bytes of a request. Each request is repeated where it fails."""


@lru_cache(8)
def folder_of(url: str) -> RemoteFolder:
    """The folder behind a URL. Its tars share it, because a new connection to S3 takes half a second."""
    return RemoteFolder(url)


def is_known(scheme: str) -> bool:
    """Return whether fsspec has a file system for a scheme, installed or not."""
    from fsspec.registry import known_implementations, registry

    return scheme in known_implementations or scheme in registry


def urls_of(pattern: str) -> list[str]:
    """Return the sorted URLs of a pattern with ``*`` or ``?``.

    Raises:
        ValueError: There are none, or the server does not answer.
    """
    folder, _, name = pattern.rpartition("/")
    if found := folder_of(folder).glob(name):
        return found
    raise ValueError(f"There is no source {pattern}.")


def state_of(url: str) -> str:
    """The server's description of a file's present state, or "" where it gives none."""
    folder, _, name = url.rpartition("/")
    try:
        size, stamp = folder_of(folder).state(name)
    except ValueError:
        return ""
    return f"{size} bytes, {stamp}" if stamp else ""


class RemoteFile(io.RawIOBase):
    """The bytes of a remote file, from its beginning.

    Raises:
        OSError: All tries of a request failed. The message is one sentence.
    """

    def __init__(self, url: str) -> None:
        folder, _, self._name = url.rpartition("/")
        self._folder = folder_of(folder)
        self._block, self._start = memoryview(b""), 0
        try:
            self._size, _ = self._folder.state(self._name)
        except ValueError as error:
            raise OSError(str(error).rstrip(".")) from error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._block and self._start < self._size:
            stop = min(self._start + BLOCK, self._size)
            try:
                self._block = memoryview(self._folder.read(self._name, self._start, stop))
            except ValueError as error:
                raise OSError(str(error).rstrip(".")) from error
            self._start = stop
        taken = self._block[: len(buffer)]
        buffer[: len(taken)] = taken
        self._block = self._block[len(taken) :]
        return len(taken)
