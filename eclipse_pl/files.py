"""Atomic writes and hashes of files, and locks of folders."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LONGEST_NAME = 255
"""The longest file name of common file systems, in bytes."""
_INSIDE_A_LETTER = bytes(range(0x80, 0xC0))
"""Bytes of UTF-8 that no letter begins with."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path of this process in the folder of ``path``. It is renamed to ``path`` when the block ends.

    If the block fails or is interrupted, the temporary file is removed and ``path`` does not change. The content is on the
    disk before the name is, so a loss of power leaves no empty file of this name.
    """
    partial = partial_path(path)
    try:
        yield partial
        _write_to_disk(partial)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _write_to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def partial_path(path: Path) -> Path:
    """A temporary name beside ``path`` that no other process has, on this node or on another.

    Of a long name it has the end, after a hash that tells names of one end apart.
    """
    owner = f".{_host()}-{os.getpid()}.partial"
    name, room = os.fsencode(path.name), LONGEST_NAME - len(os.fsencode(owner))
    if len(name) > room:
        begin = hashlib.sha256(name).hexdigest()[:16]
        name = begin.encode() + name[len(begin) - room :].lstrip(_INSIDE_A_LETTER)
    return path.with_name(os.fsdecode(name) + owner)


def _host() -> str:
    """The name of this machine without dots, which end the name of a file."""
    return socket.gethostname().replace(".", "_")


def is_being_written(partial: Path) -> bool:
    """Whether the process that `partial_path` names may still write the file: it lives, or is on another machine."""
    named = re.fullmatch(r".+\.(?P<host>[^.]+)-(?P<process>\d+)\.partial", partial.name)
    if named is None or named["host"] != _host():
        return named is not None
    try:
        os.kill(int(named["process"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return True


def cache_folder(name: str) -> Path:
    """The folder of this name in the user's cache: below ``XDG_CACHE_HOME``, or below ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "eclipse_pl" / name


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, completely or not at all."""
    with atomic_path(path) as partial:
        partial.write_bytes(content)


def copy_folder(source: Path, target: Path, keep: Callable[[Path], bool] = lambda path: True) -> None:
    """Copy what ``keep`` keeps of ``source``, with the files that links lead to, to ``target``, a new folder.

    The first file that cannot be written ends it with its own error. `shutil.copytree` goes on with the other files, and
    raises an OSError with a list of all and no number.

    Raises:
        ValueError: See `require_outside`.
    """
    require_outside(target, source)
    target.mkdir(parents=True)
    for path in filter(keep, source.iterdir()):
        if path.is_dir():
            copy_folder(path, target / path.name, keep)
        else:
            shutil.copyfile(path, target / path.name)


def require_outside(target: Path, source: Path) -> None:
    """Raise ValueError where ``target`` lies in the folder ``source``, whose copy would be copied into itself without end."""
    if target.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"{target} lies in {source}, which is copied. Choose a folder outside of it.")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def require_utf8(text: str, name: str) -> None:
    """Check that JSON can hold the ``text`` that ``name`` has: a path of other bytes has lone surrogates.

    Raises:
        ValueError: It cannot.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} {text!a} is not UTF-8. Rename it.") from None


def json_bytes(content: Any) -> bytes:
    """``content`` as JSON. The same content gives the same bytes."""
    return (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode()


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON, atomically. The same content gives the same bytes.

    Raises:
        ValueError: The write failed; see `disk_error`.
    """
    try:
        write_atomically(path, json_bytes(content))
    except OSError as error:
        raise disk_error(error, path.parent) from error


def disk_error(error: OSError, folder: Path) -> ValueError:
    """The error for a write that failed."""
    return ValueError(
        f"Could not write to {folder} ({error.strerror or error}). No partial file was left there. Free some space or "
        "choose another folder, and run the command again. It resumes after the finished part."
    )


@contextmanager
def only_process(folder: Path, name: str, busy: str, seconds: float = 0.0) -> Iterator[None]:
    """Hold ``folder`` by a lock file ``name`` until the block or the process ends. Wait ``seconds`` for another process.

    Raises:
        ValueError: ``busy`` if another process holds it, or the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / name, timeout=seconds)
    blocking = next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None)
    if blocking is not None:
        raise ValueError(f"{blocking} is a file, so {folder} cannot be a folder. Choose another.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise ValueError(busy) from None
    except OSError as error:
        raise disk_error(error, folder) from error
    try:
        yield
    finally:
        lock.release()
