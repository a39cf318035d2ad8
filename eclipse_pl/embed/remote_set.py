"""RemoteSet: a set of shards that is written behind a URL. Each finished shard is uploaded, and the manifest last."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from eclipse_pl.data.manifest import MANIFEST_NAME, SPACE_NAME
from eclipse_pl.data.remote_folder import RemoteFolder, is_url
from eclipse_pl.files import cache_folder

SETTINGS_NAME = "embed.json"
"""Settings that all shards of a set share: space, form of the captions, chunk and the fractions of the splits."""


def work_folder(out: str | Path) -> Path:
    """The local folder of a set while it is written: the set's own, or one in the user's cache for a set behind a URL."""
    if not is_url(out):
        return Path(out)
    return cache_folder("embed") / hashlib.sha256(str(out).encode()).hexdigest()[:16]


class RemoteSet:
    """The folder behind the URL, and the local folder that holds the shard in progress and copies of the small files."""

    def __init__(self, url: str) -> None:
        self.folder = RemoteFolder(url)
        self.work = work_folder(url)

    def fetch(self) -> dict[str, int]:
        """Copy the settings, the manifest and the entries of finished shards. Return the bytes of each remote shard by name.

        Raises:
            ValueError: The server does not answer, or refuses.
        """
        sizes = self.folder.files()
        small = [name for name in sizes if name in (SETTINGS_NAME, MANIFEST_NAME) or name.endswith(".tar.json")]
        for path in (self.work / SETTINGS_NAME, self.work / MANIFEST_NAME, *self.work.glob("*.tar.json")):
            path.unlink(missing_ok=True)
        for name in small:
            (self.work / name).write_bytes(self.folder.read(name))
        return {name: size for name, size in sizes.items() if name.endswith(".tar")}

    def put(self, *names: str) -> None:
        """Upload files of the local folder in this order.

        Raises:
            ValueError: An upload failed in all tries.
        """
        for name in names:
            self.folder.write(name, self.work / name)

    def put_shard(self, name: str) -> None:
        """Upload a finished shard, and then its entry. The local copy of the shard is removed."""
        self.put(name, f"{name}.json")
        (self.work / name).unlink()

    def finish(self, shards: Iterable[str]) -> None:
        """Upload space and manifest, and remove the entries of the shards, which the manifest holds."""
        self.put(SPACE_NAME, MANIFEST_NAME)
        for name in shards:
            self.folder.remove(f"{name}.json")

    def read(self, name: str, start: int, stop: int) -> bytes:
        """Bytes of a shard."""
        return self.folder.read(name, start, stop)
