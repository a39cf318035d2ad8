"""Webdataset tars by patterns, paths and URLs."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from urllib.request import url2pathname

from eclipse_pl.files import require_utf8
from eclipse_pl.raw.remote_file import is_known, urls_of

_TAR = r"\.(?:tar(?:\.\w+)?|tgz)"
_IN_URL = re.compile(rf"([^/\s=?'\"]+){_TAR}\b", re.IGNORECASE)
_ENDING = re.compile(r"\.(?:tar(?:\.(?:gz|bz2|xz|zst))?|tgz)\Z", re.IGNORECASE)
_IN_PATH = re.compile(rf"([^/]+){_TAR}\Z", re.IGNORECASE)


def find_tars(patterns: Sequence[str]) -> dict[str, str]:
    """Return {name of the new shard: tar} for all tars of the patterns.

    Braces (``{0000..0009}``) and, for local files, ``* ? [`` and ``~`` are expanded. An existing path is not expanded. URLs
    are webdataset's (``https:``, ``gs:``, ``hf:``, ``pipe:``), fsspec's (``s3:``) and ``file:``. ``*`` and ``?`` are expanded
    where fsspec lists the files of a folder: in ``s3:``, ``gs:`` and ``hf:``, and not in ``https:``.

    Raises:
        ValueError: A file is missing, nothing opens or lists a URL, or two tars have the same name.
    """
    sources = [source for pattern in patterns for source in _expanded(pattern)]
    named: dict[str, str] = {}
    for source in dict.fromkeys(sources):
        require_utf8(source, "The name of the source")
        tars = _tars_in(source)
        if not tars:
            raise ValueError(
                f"The source {source} does not end in .tar, so its shard has no name. Sources are webdataset tars."
            )
        name = tars[-1].replace(".", "_") + ".tar"
        if name in named:
            raise ValueError(
                f"The sources {named[name]} and {source} would both become the shard {name}. Rename one of them, or embed "
                "them into two folders."
            )
        named[name] = source
    if not named:
        raise ValueError("No source was given. `source` takes webdataset tars, such as 'raw/*.tar'.")
    return named


def names_tars(source: str) -> bool:
    """Return whether a path, pattern or URL names tars, whatever lies there."""
    return bool(_tars_in(source) or _tars_in(source.replace("?", "*"))) or source.startswith("pipe:")


def tar_ending(name: str) -> str:
    """The ending of a tar's name, such as ``.tar`` or ``.tar.gz``; "" of any other file, such as an index of a tar."""
    found = _ENDING.search(name)
    return found[0] if found else ""


def _tars_in(source: str) -> list[str]:
    """The names of tars: at the end of a path, anywhere in a URL."""
    return (_IN_URL if _is_url(source) else _IN_PATH).findall(source)


def _expanded(pattern: str) -> list[str]:
    if _is_url(pattern):
        return [one for url in _braces(pattern) for one in _listed(url)]
    path = _local(pattern)
    if os.path.lexists(path) and not _has_stars(path):
        return [_require_file(path)]
    folder, rest = _folder_there(path)
    found: list[str] = []
    for name in _braces(rest):
        # `raw[1]` can be a folder or a pattern
        matches = {*glob.glob(os.path.join(glob.escape(folder), name)), *glob.glob(os.path.join(folder, name))}
        if not matches:
            of = "" if name == rest else f", one of {pattern}"
            raise ValueError(
                f"There is no source {os.path.join(folder, name)}{of}. `source` takes webdataset tars: "
                "'raw/{0000..0009}.tar', 'raw/*.tar', or URLs."
            )
        found += [_require_file(one) for one in sorted(matches)]
    return found


def _listed(url: str) -> list[str]:
    """The URLs that a URL with ``*`` or ``?`` stands for, where its server lists files. Any other URL as it is."""
    scheme = url.partition(":")[0]
    has_lists = is_known(scheme) and scheme not in ("http", "https")
    place = url if has_lists else url.partition("?")[0]  # a query
    if scheme == "pipe" or {"*", "?"}.isdisjoint(place):
        return [url]
    if not has_lists:
        raise ValueError(
            f"The source {place} has a `*`, and the files behind {scheme}: cannot be listed. Name them by their numbers: "
            f"'{place.replace('*', '{0000..0009}', 1)}'."
        )
    return urls_of(url)


def _braces(pattern: str) -> list[str]:
    from braceexpand import braceexpand

    try:
        return list(braceexpand(pattern))
    except ValueError:  # a single brace is part of a name
        return [pattern]


def _has_stars(path: str) -> bool:
    return not {"*", "?"}.isdisjoint(os.path.basename(path))


def _require_file(path: str) -> str:
    if os.path.islink(path) and not os.path.exists(path):
        raise ValueError(f"The source {path} is a link to {os.readlink(path)}, which is not there.")
    if not os.path.isfile(path):
        what = "a folder" if os.path.isdir(path) else "no regular file"
        raise ValueError(f"The source {path} is {what}, and a webdataset tar is expected.")
    return path


def _is_url(source: str) -> bool:
    """Return whether a source is a URL. ``file:`` and folders with a colon in their name are paths.

    Raises:
        ValueError: Nothing opens the URL.
    """
    scheme = re.match(r"([a-z0-9]{2,}):", source)
    if not scheme or scheme[1] == "file" or os.path.lexists(source.partition("/")[0]):
        return False
    if scheme[1] not in gopen_schemes() and not is_known(scheme[1]):
        known = ", ".join(f"{name}:" for name in [*gopen_schemes(), "s3"])
        raise ValueError(
            f"The source {source} is a URL that nothing here opens; known are {known} and those of fsspec. For others use a "
            "command that prints the tar: 'pipe:aws s3 cp s3://bucket/0000.tar -'."
        )
    return True


def gopen_schemes() -> list[str]:
    """Schemes of the URLs that webdataset opens."""
    from webdataset.gopen import gopen_schemes as schemes

    return [name for name in schemes if not name.startswith("_")]


def _local(source: str) -> str:
    """Return the path of a ``file:`` URL or of a path with ``~``."""
    if source.startswith("file:"):
        return url2pathname(re.sub("^//[^/]*", "", source.removeprefix("file:")))
    return os.path.expanduser(source)


def _folder_there(pattern: str) -> tuple[str, str]:
    """Split a pattern into its longest beginning that is an existing folder, and the rest."""
    *folders, last = pattern.split("/")
    there = 0
    while there < len(folders) and os.path.isdir("/".join(folders[: there + 1]) or "/"):
        there += 1
    folder = "/".join(folders[:there])
    return folder + "/" * bool(there), "/".join([*folders[there:], last])
