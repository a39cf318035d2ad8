"""Small files by URL or path, whole or not at all."""

from __future__ import annotations

import re
from pathlib import Path

LARGEST = 64 * 1024 * 1024
"""Bytes; no file of prompts is larger, and a URL may lead anywhere."""
PATIENCE = 60.0
"""Seconds without a byte after which a connection counts as broken."""


class MissingFileError(ValueError):
    """There is no such file at the source."""


def fetch(source: str) -> bytes:
    """Content of an http(s) URL or of a local file.

    MissingFileError where there is none (404), ValueError where it cannot be reached or ends before its announced length.
    """
    if not is_url(source):
        if not Path(source).is_file():
            raise MissingFileError(f"There is no file {source}.")
        content = Path(source).read_bytes()
    else:
        content = _fetch_url(source)
    if len(content) > LARGEST:
        raise ValueError(f"{source} is larger than {LARGEST / 1e6:.0f} MB, which no file of prompts is.")
    return content


def is_url(source: str) -> bool:
    """Whether ``source`` is an http(s) URL, not a path. ValueError for a URL of another kind."""
    scheme = re.match(r"([a-z][a-z0-9+.-]+)://", source, re.IGNORECASE)
    if scheme is not None and scheme.group(1).lower() not in ("http", "https"):
        raise ValueError(f"{source} is neither an http(s) URL nor a path.")
    return scheme is not None


def _fetch_url(url: str) -> bytes:
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    again = "Run the same command again: finished files are kept."
    try:
        with urlopen(Request(url, headers={"User-Agent": "eclipse_pl"}), timeout=PATIENCE) as response:
            announced = response.length
            content = bytes(response.read(LARGEST + 1))
    except HTTPError as error:
        kind = MissingFileError if error.code in (404, 410) else ValueError
        raise kind(f"{url} answers {error.code} {error.reason}. Check the source and the revision.") from error
    except (HTTPException, OSError) as error:  # no network, no such host, a connection that was reset or fell silent
        raise ValueError(f"{url} cannot be read ({getattr(error, 'reason', None) or error}). {again}") from error
    # `read` with a limit does not tell a short answer
    if announced is not None and len(content) < min(announced, LARGEST + 1):
        raise ValueError(f"{url} ended after {len(content):,} of {announced:,} bytes. {again}")
    return content
