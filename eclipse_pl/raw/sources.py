"""Sources: the webdataset tars that somebody names by patterns, paths and URLs."""

from __future__ import annotations

import glob
import re
from pathlib import Path


def find_sources(patterns: list[str]) -> dict[str, str]:
    """The tars that the patterns name, as {name of the shard to make: source}.

    Braces (``{0000..0009}``) and, for local files, ``* ? [`` are expanded; anything that webdataset opens is taken
    (``https:``, ``s3:``, ``pipe:``). ValueError for a local file that is missing and for two sources of one name.
    """
    from braceexpand import braceexpand

    sources = []
    for url in [url for pattern in patterns for url in braceexpand(pattern)]:
        remote = re.match(r"[a-z0-9]{2,}:", url) is not None
        found = sorted(glob.glob(url)) if not remote and glob.has_magic(url) else [url]
        if not found or not (remote or Path(found[0]).is_file()):
            raise ValueError(
                f"There is no source {url}. `source` takes webdataset tars: 'raw/{{0000..0009}}.tar', 'raw/*.tar', or URLs."
            )
        sources += found
    named: dict[str, str] = {}
    for source in sources:
        tars = re.findall(r"([^/\s=?]+)\.(?:tar(?:\.\w+)?|tgz)\b", source)
        if not tars:
            raise ValueError(
                f"The source {source} does not end in .tar, so its shard has no name. Sources are webdataset tars."
            )
        name = tars[-1].replace(".", "_") + ".tar"
        if name in named:
            raise ValueError(
                f"The sources {named[name]} and {source} would both become the shard {name}. Give tars of different names, or "
                "embed them into two folders."
            )
        named[name] = source
    if not named:
        raise ValueError("No source was given. `source` takes webdataset tars, such as 'raw/*.tar'.")
    return named
