"""A folder of downloaded records with a size limit, which all processes of a node share.

HASH          a whole record: the bytes from its first member to its last. HASH stands for content and layout
HASH.partial  a record that is being downloaded; its process holds a lock on it
.used         the bytes of all these files. Whoever adds or removes one holds a lock on it

The locks are flock's. They end with their process, so that another one can take over. A record that is mapped is locked, and
a locked record is not removed. Files of other names are left alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from eclipse_pl.data.manifest import RecordEntry

_OURS = re.compile(r"[0-9a-f]{64}(\.partial)?")
_FILLED = 0.95
"""Share of the limit to which old records are removed, so that not every download looks through the folder."""


class CacheError(ValueError):
    """The folder cannot be used."""


class FullError(CacheError):
    """The limit leaves no room for a record, because the other records are in use."""


class RecordCache:
    """The records of any number of sets, by their checksums. The least recently used are removed first.

    Args:
        folder: The folder. It is made when the first record is added.
        gigabytes: Limit of its size, in 1e9 bytes.
    """

    def __init__(self, folder: str | Path, gigabytes: float) -> None:
        self.folder = Path(folder).expanduser()
        self.limit = int(gigabytes * 1e9)
        self._checked: set[str] = set()

    def open(self, entry: RecordEntry, check: bool = True) -> mmap.mmap | None:
        """The record in memory, or None if it is not there. With ``check`` its bytes are tested once in this process.

        A record that is truncated or damaged is removed.
        """
        path = self.path(entry)
        try:
            with open(path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)  # the map keeps the file open, and the lock with it
                status = os.fstat(file.fileno())
                if not status.st_nlink:  # removed before it was locked
                    return None
                first, end = entry.span
                if status.st_size == end - first:
                    memory = _mapped(file)
                    if not check or path.name in self._checked or entry.is_whole(memory, first):
                        self._checked.add(path.name)
                        with suppress(OSError):  # a cache that is read-only serves what it has
                            os.utime(path)
                        return memory
            path.unlink(missing_ok=True)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._error(error) from error
        return None

    def claim(self, entry: RecordEntry) -> Claim | None:
        """The right to download a record; None if another process does so, or has done so.

        Raises:
            FullError: There is no room now.
            CacheError: The folder cannot be written.
        """
        path = self.path(entry)
        first, end = entry.span
        if (file := self.lock(path.name)) is None:
            return None
        claim = Claim(self, entry, path, file)
        try:
            if path.exists():
                claim.abort()
                return None
            self._reserve(file, end - first)
        except OSError as error:
            claim.abort()
            raise self._error(error) from error
        except BaseException:
            claim.abort()
            raise
        return claim

    def lock(self, name: str) -> BinaryIO | None:
        """Lock the file ``name.partial`` for this thread; None if another one holds it. `unlock` removes it.

        Raises:
            CacheError: The folder cannot be written.
        """
        path = self.folder / f"{name}.partial"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                    return file
            except (BlockingIOError, FileNotFoundError):  # held by another, or renamed or removed by it in the meantime
                pass
            except BaseException:
                _unlocked(file)
                raise
            _unlocked(file)
        except OSError as error:
            raise self._error(error) from error
        return None

    def unlock(self, name: str, file: BinaryIO) -> None:
        """Remove the file that `lock` gave."""
        with suppress(OSError):
            (self.folder / f"{name}.partial").unlink(missing_ok=True)
        _unlocked(file)

    def path(self, entry: RecordEntry) -> Path:
        """The place of a record. Two sets share a record if both its content and its layout are the same."""
        first, _ = entry.span
        layout = sorted((offset - first, size) for offset, size in entry.members.values())
        return self.folder / hashlib.sha256(f"{entry.sha256} {layout}".encode()).hexdigest()

    @property
    def used(self) -> int:
        """Bytes of all records, those in progress included."""
        with self._used():
            return sum(size for _, size, _ in self._files())

    def release(self, size: int) -> None:
        """Give back room that was reserved and not filled."""
        with self._used() as file:
            _write_number(file, max(0, _number(file) - size))

    def _reserve(self, partial: BinaryIO, size: int) -> None:
        """Make room for a record and count it. The file gets its size at once, so that it is counted by others too."""
        os.ftruncate(partial.fileno(), 0)  # what a killed process wrote
        with self._used() as file:
            used = _number(file)
            if used < 0 or used + size > self.limit:
                used = self._make_room(size)
            if used + size > self.limit:
                _write_number(file, used)
                raise FullError(
                    f"The cache {self.folder} has no room for a record of {size / 1e6:.1f} MB: {used / 1e9:.3f} GB of its "
                    f"{self.limit / 1e9:.3f} GB are in use. Set data.cache_gb to more, or data.ahead or data.window to less."
                )
            os.ftruncate(partial.fileno(), size)
            _write_number(file, used + size)

    def _make_room(self, size: int) -> int:
        """Remove old records until ``size`` more bytes fit. Return the bytes that remain."""
        files = sorted(self._files())
        used = sum(bytes_ for _, bytes_, _ in files)
        for _, bytes_, path in files:
            if used + size <= _FILLED * self.limit:
                break
            if self._remove(path):
                used -= bytes_
        return used

    def _remove(self, path: Path) -> bool:
        """Remove a file that no process uses: a record that is not mapped, or the rest of a download that was killed."""
        with suppress(FileNotFoundError, BlockingIOError), open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                path.unlink()
                return True
        return False

    def _files(self) -> Iterator[tuple[int, int, Path]]:
        """Time of the last use, bytes and path of each file of the cache."""
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if _OURS.fullmatch(entry.name):
                    with suppress(FileNotFoundError):
                        status = entry.stat()
                        yield status.st_mtime_ns, status.st_size, Path(entry.path)

    @contextmanager
    def _used(self) -> Iterator[BinaryIO]:
        """The locked file with the number of bytes. A process that is killed leaves a number that is too large, if any."""
        with os.fdopen(os.open(self.folder / ".used", os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                yield file
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)

    def _error(self, error: OSError) -> CacheError:
        return CacheError(
            f"The cache {self.folder} cannot be used ({error.strerror or error}). Free some space, or set data.cache to "
            "another folder, on a local disk that can be written."
        )


class Claim:
    """A record that this thread downloads: the bytes written so far. Leaving the block without `finish` removes them."""

    def __init__(self, cache: RecordCache, entry: RecordEntry, path: Path, file: BinaryIO) -> None:
        self._cache, self._entry, self._path, self._file = cache, entry, path, file

    def restart(self) -> None:
        """Forget what was written."""
        self._file.seek(0)

    def write(self, block: bytes | memoryview) -> None:
        """Append bytes. CacheError if the disk is full."""
        try:
            self._file.write(block)
        except OSError as error:
            raise self._cache._error(error) from error

    def finish(self) -> mmap.mmap | None:
        """Give the record to all processes, and return it in memory; None if it is not whole."""
        try:
            self._file.flush()
            memory = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
            if not self._entry.is_whole(memory, self._entry.span[0]):
                return None
            with self._cache._used():  # whoever adds up the files sees it under one name
                os.replace(self._partial, self._path)
            fcntl.flock(self._file, fcntl.LOCK_SH)
        except OSError as error:
            raise self._cache._error(error) from error
        self._cache._checked.add(self._path.name)
        self._file.close()
        return memory

    def abort(self) -> None:
        if not self._file.closed:
            size = os.fstat(self._file.fileno()).st_size
            with suppress(OSError):  # the disk may be the reason
                self._partial.unlink(missing_ok=True)
                if size:
                    self._cache.release(size)
            with suppress(OSError):  # of bytes that do not fit on the disk
                _unlocked(self._file)

    @property
    def _partial(self) -> Path:
        return self._path.with_name(f"{self._path.name}.partial")

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.abort()


def _mapped(file: BinaryIO) -> mmap.mmap:
    """The file in memory. Linux makes its pages ready at once, which takes a fraction of the time of one fault a page."""
    if hasattr(mmap, "MAP_POPULATE"):
        return mmap.mmap(file.fileno(), 0, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, prot=mmap.PROT_READ)
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _unlocked(file: BinaryIO) -> None:
    """Close a file that is locked. Closing alone would leave the lock to a process that was forked in the meantime."""
    try:
        fcntl.flock(file, fcntl.LOCK_UN)
    finally:
        file.close()


def _number(file: BinaryIO) -> int:
    """The number in a file, or -1 if it holds none."""
    file.seek(0)
    digits = file.read()
    return int(digits) if digits.isdigit() else -1


def _write_number(file: BinaryIO, number: int) -> None:
    file.seek(0)
    file.truncate()
    file.write(str(number).encode())
