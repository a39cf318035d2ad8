"""WrittenSet: the set of shards that a run writes, in a folder of this machine or behind a URL."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from eclipse_pl.data.manifest import MANIFEST_NAME, SPACE_NAME, Manifest, ShardEntry
from eclipse_pl.data.remote_folder import RemoteFolder, is_url, without_query
from eclipse_pl.embed.folder import (
    SETTINGS_NAME,
    finish_set,
    finished_shards,
    forget,
    has_other_bytes,
    require_same_settings,
)
from eclipse_pl.embedding import ClipSpace
from eclipse_pl.files import cache_folder, json_bytes, write_atomically, write_json


class WrittenSet:
    """A set in a folder of this machine. ``work`` is that folder: the shard in progress and all small files lie there."""

    def __init__(self, folder: Path) -> None:
        self.work = folder

    def fetch(self) -> None:
        """Bring ``work`` up to date with what other machines have written."""

    def begin(self, settings: dict[str, Any], named: Collection[str]) -> None:
        """Check that the shards of the set are among ``named`` and have these settings, and keep the settings.

        Raises:
            ValueError: They do not, or the file of settings is damaged.
        """
        require_same_settings(self.work, settings, named)

    def finished(self, hashed: Collection[str]) -> dict[str, ShardEntry]:
        """The finished shards of the set, by name. Those ``hashed`` are read, and of the others the size alone is checked."""
        return finished_shards(self.work, hashed)

    def forget(self, entry: ShardEntry) -> None:
        """Before a shard gets the bytes of ``entry``, remove what vouches for other ones: its entry, and the manifest."""
        forget(self.work, entry)

    def put(self, entry: ShardEntry) -> None:
        """Keep a shard that was written into ``work``, and its entry."""
        write_json(self.work / f"{entry.name}.json", entry.to_json())

    def finish(self, space: ClipSpace, manifest: Manifest) -> None:
        """Write space and manifest, and remove the files of the unfinished set."""
        finish_set(self.work, space, manifest)


class RemoteSet(WrittenSet):
    """A set behind a URL. Each finished shard is uploaded, and the manifest last. ``work`` holds copies of the small files.

    Every method raises a ValueError if the server does not answer, or refuses.
    """

    def __init__(self, url: str) -> None:
        super().__init__(work_folder(url))
        self.folder = RemoteFolder(url)
        self.sizes: dict[str, int] = {}
        """Bytes of each shard at the URL when it was last looked at, by name."""

    def fetch(self) -> None:
        """Copy the settings, the manifest and the entries of finished shards.

        Each copy is replaced as a whole, because other tasks of this machine read them.
        """
        files = self.folder.files()
        found: set[str] = set()
        for name in filter(_is_copied, files):
            try:
                write_atomically(self.work / name, self.folder.read(name))
                found.add(name)
            except ValueError as error:
                if not isinstance(error.__cause__, FileNotFoundError):  # a task elsewhere has removed it since
                    raise
        for path in self.work.iterdir():
            if _is_copied(path.name) and path.name not in found:
                path.unlink(missing_ok=True)
        self.sizes = {name: size for name, size in files.items() if name.endswith(".tar")}

    def begin(self, settings: dict[str, Any], named: Collection[str]) -> None:
        self.fetch()
        require_same_settings(self.work, settings, named, self.sizes, without_query(self.folder.url))
        self._upload(SETTINGS_NAME)

    def finished(self, hashed: Collection[str]) -> dict[str, ShardEntry]:
        """The finished shards, of which the size alone is checked."""
        return finished_shards(self.work, hashed, self.sizes)

    def forget(self, entry: ShardEntry) -> None:
        files = self.folder.files()
        if f"{entry.name}.json" in files:
            self.folder.remove(f"{entry.name}.json")
        written = self.folder.read(MANIFEST_NAME) if MANIFEST_NAME in files else b""
        try:
            shards = Manifest.parse(written, MANIFEST_NAME).shards
        except ValueError:  # missing or damaged: it vouches for nothing
            return
        if has_other_bytes(shards, entry):
            for other in shards:
                if other.name != entry.name and f"{other.name}.json" not in files:
                    self.folder.write_bytes(f"{other.name}.json", json_bytes(other.to_json()))
            self.folder.remove(MANIFEST_NAME)

    def put(self, entry: ShardEntry) -> None:
        """Upload a shard, and then its entry. The local copy of the shard is removed.

        `fetch` makes the local copy of the entry: one that is not at the URL yet would be removed by another task's.
        """
        self._upload(entry.name)
        self.folder.write_bytes(f"{entry.name}.json", json_bytes(entry.to_json()))
        (self.work / entry.name).unlink()

    def finish(self, space: ClipSpace, manifest: Manifest) -> None:
        """Upload space and manifest, and remove the entries of the shards, which the manifest holds."""
        finish_set(self.work, space, manifest, self.folder.read)
        self._upload(SPACE_NAME, MANIFEST_NAME)
        for shard in manifest.shards:
            self.folder.remove(f"{shard.name}.json")

    def _upload(self, *names: str) -> None:
        """Upload files of ``work`` in this order."""
        for name in names:
            self.folder.write(name, self.work / name)


def _is_copied(name: str) -> bool:
    return name in (SETTINGS_NAME, MANIFEST_NAME) or name.endswith(".tar.json")


def work_folder(out: str | Path) -> Path:
    """The local folder of a set while it is written: the set's own, or one in the user's cache for a set behind a URL."""
    if not is_url(out):
        return Path(out).expanduser()
    return cache_folder("embed") / hashlib.sha256(str(out).encode()).hexdigest()[:16]


def written_set(out: str | Path) -> WrittenSet:
    """The set at a path or a URL."""
    return RemoteSet(str(out)) if is_url(out) else WrittenSet(work_folder(out))
