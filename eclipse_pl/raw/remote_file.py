"""Remote files by URLs that fsspec opens and webdataset does not, such as ``s3:``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

EXTRAS = {"s3": "s3", "s3a": "s3", "gcs": "gcs", "gs": "gcs"}
"""The extra of this package that brings fsspec's part for a scheme."""


def is_known(scheme: str) -> bool:
    """Return whether fsspec has a file system for a scheme, installed or not."""
    from fsspec.registry import known_implementations, registry

    return scheme in known_implementations or scheme in registry


def urls_of(pattern: str) -> list[str]:
    """Return the sorted URLs of a pattern with ``*`` or ``?``.

    Raises:
        ValueError: There are none, or the server does not answer.
    """
    system, path = _system(pattern)
    try:
        found = sorted(system.unstrip_protocol(one) for one in system.glob(path))
    except Exception as error:  # each file system has error classes of its own
        raise ValueError(f"The source {pattern} cannot be listed ({_reason(error)}).") from error
    if not found:
        raise ValueError(f"There is no source {pattern}.")
    return found


def info_of(url: str) -> str:
    """The server's description of a file's present state, or "" where it gives none."""
    try:
        system, path = _system(url)
        info = system.info(path)
    except Exception:
        return ""
    stamp = next((str(info[name]) for name in ("ETag", "etag", "md5Hash", "LastModified", "mtime") if info.get(name)), "")
    return f"{info.get('size')} bytes, {stamp}" if stamp else ""


@contextmanager
def opened(url: str) -> Iterator[Any]:
    """Open a file for reading. OSError describes all that goes wrong."""
    system, path = _system(url)
    try:
        with system.open(path, "rb", block_size=1 << 24, cache_type="readahead") as file:
            yield file
    except (OSError, ValueError):
        raise
    except Exception as error:
        if not type(error).__module__.startswith(("botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "fsspec")):
            raise
        raise OSError(f"{url} cannot be read ({_reason(error)})") from error


def _system(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    scheme = url.partition(":")[0]
    try:
        system, path = url_to_fs(url)
    except ImportError as error:
        package = f"pip install 'eclipse_pl[{EXTRAS[scheme]}]'" if scheme in EXTRAS else str(error)
        raise ValueError(f"The source {url} needs a package that is missing: {package}.") from error
    return system, path


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return f"{text}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" if "credentials" in text.lower() else text
