from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eclipse_pl.data.manifest import disk_error


@contextmanager
def only_process(folder: Path, name: str, busy: str) -> Iterator[None]:
    """Hold ``folder`` by a lock file ``name`` until the end of the block or of the process, however it ends.

    Raises:
        ValueError: ``busy`` where another process holds it; or the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / name, timeout=0)
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
