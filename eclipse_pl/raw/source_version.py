"""Whether a source is still the tar that a shard was made of."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

from eclipse_pl.data.manifest import SourceEntry
from eclipse_pl.raw.tar_files import source_sha256

SECONDS = 20
"""How long a server may take to answer."""


def version_of(source: str) -> str:
    """What tells quickly which file this is: size and time of a local one, what the server says of one on the web.

    "" where nothing does (``pipe:``, servers that say nothing): then only the bytes tell.
    """
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
    """``before``, with the source's present version, if it still has the same bytes; None if not.

    They are read where the version does not tell. BrokenSourceError where they cannot be.
    """
    version = version_of(source)
    if version and version == before.version:
        return before
    return replace(before, version=version) if source_sha256(source) == before.sha256 else None
