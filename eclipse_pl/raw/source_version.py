"""Check whether a source has changed since its shard was written."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

from eclipse_pl.data.manifest import SourceEntry
from eclipse_pl.raw.tar_files import source_sha256

SECONDS = 20
"""Timeout of a request."""


def version_of(source: str) -> str:
    """Describe a source without reading it: size and time of a local file, the server's stamp of a URL, otherwise ""."""
    path = Path(source)
    if path.is_file():
        status = path.stat()
        return f"{status.st_size} bytes, modified {status.st_mtime_ns}"
    if not re.match(r"https?://", source):
        return ""
    try:
        with urllib.request.urlopen(urllib.request.Request(source, method="HEAD"), timeout=SECONDS) as answer:
            stamp = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
            return f"{answer.headers.get('Content-Length')} bytes, {stamp}" if stamp else ""
    except (OSError, ValueError, urllib.error.URLError):
        return ""


def unchanged(source: str, before: SourceEntry) -> SourceEntry | None:
    """Return ``before`` with the present version if the source has the same bytes, otherwise None.

    It reads the bytes only where the version does not decide.

    Raises:
        BrokenSourceError: The source cannot be read.
    """
    version = version_of(source)
    if version and version == before.version:
        return before
    return replace(before, version=version) if source_sha256(source) == before.sha256 else None
