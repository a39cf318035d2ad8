"""The folder of a set of shards while a command writes it: its lock, its finished shards, its manifest.

Each finished shard has a manifest entry in its own file (``0000.tar.json``). A resumed run keeps the shards whose entry
exists and whose bytes are right. At the end the entries are joined in manifest.json. Before a shard of a finished set gets
other bytes, the manifest is taken apart into these files again, so that a stopped run leaves no set that looks finished.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.progress import track

from eclipse_pl.data.manifest import MANIFEST_NAME, SPACE_NAME, Check, Manifest, ShardEntry
from eclipse_pl.dotted_keys import flat
from eclipse_pl.embed.image_statistics import ReadBytes, image_statistics
from eclipse_pl.embedding import ClipSpace
from eclipse_pl.files import disk_error, is_being_written, only_process, write_atomically, write_json
from eclipse_pl.launch.share import Share
from eclipse_pl.raw.reasons import by_kind
from eclipse_pl.raw.splits import CACHE

LOCK_NAME = "embed.lock"
TASK_LOCKS = "embed.*-of-*.lock"
"""Locks of tasks. They may stay when the tasks have ended."""
SETTINGS_NAME = "embed.json"
"""Settings that all shards of a set share: space, precision, form of the captions, chunk, the fractions of the splits, ..."""
LATER_SETTINGS = ("precision", "prior_options")
"""Settings that older sets do not name. A run with any value of them resumes such a set."""
WHOLE = Share()
"""All shards."""


def only_run(out: Path, share: Share = WHOLE) -> AbstractContextManager[None]:
    """Lock ``out``, or one share of its shards, for this process.

    Raises:
        ValueError: Another process embeds into it.
    """
    name = LOCK_NAME if share.is_whole else f"embed.{share}.lock"
    return only_process(out, name, f"Another run is embedding into {out}. Wait for it, or choose another folder.")


def in_turn(out: Path, share: Share) -> AbstractContextManager[None]:
    """Lock ``out`` while one of several tasks copies or writes its small files. The other tasks wait.

    A run of all shards holds this lock already (`only_run`).
    """
    if share.is_whole:
        return nullcontext()
    return only_process(out, LOCK_NAME, f"Another run is embedding into {out} for an hour. Run the command again.", 3600.0)


def require_same_settings(
    out: Path,
    settings: dict[str, Any],
    named: Collection[str],
    remote: Collection[str] | None = None,
    url: str = "",
) -> None:
    """Check that every shard in ``out`` is among ``named`` and was made with these settings, and keep the settings.

    Settings of a run that left nothing else are replaced. But where tasks have worked, one may be making its first shard.

    Args:
        out: Folder of the set, or of the copies of its small files.
        settings: Settings of the shards that will be made.
        named: Names of all shards.
        remote: Names of the finished shards of a set behind a URL.
        url: That URL, for messages.

    Raises:
        ValueError: A shard has another name or other settings, or the file of settings is damaged.
    """
    path, place = out / SETTINGS_NAME, url or out
    shards = sorted((file.name for file in out.glob("*.tar")) if remote is None else remote)
    is_empty = not (shards or any(out.glob("*.tar.json")) or (out / MANIFEST_NAME).exists())
    if is_empty and not any(out.glob(TASK_LOCKS)):
        write_json(path, settings)
        return
    if not path.is_file():
        if shards or (out / MANIFEST_NAME).exists():
            raise ValueError(
                f"{place} already holds {(shards or [MANIFEST_NAME])[0]}, not made by this command. Choose another folder."
            )
        write_json(path, settings)
        return
    try:
        before = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{SETTINGS_NAME} in {place} is damaged ({error}), so the settings of its shards are lost. Choose another folder."
        ) from error
    compared = [name for name in settings if name in before or name not in LATER_SETTINGS]
    there, now = (flat({name: one.get(name) for name in compared}) for one in (before, settings))
    keys = dict.fromkeys([*now, *there])
    if differing := [key for key in keys if there.get(key) != now.get(key)]:
        changes = "; ".join(f"{key}: {there.get(key)} there, {now.get(key)} now" for key in differing)
        if is_empty:
            raise ValueError(
                f"{place} was begun with other settings ({changes}) and holds no shard yet. Use the same settings, choose "
                f"another folder, or remove {SETTINGS_NAME} there if no other task is running."
            )
        raise ValueError(
            f"{place} holds shards with other settings ({changes}). Use the same settings, or choose another folder."
        )
    if strange := [name for name in shards if name not in named]:
        raise ValueError(
            f"{place} holds {strange[0]}, which is not a shard of the given sources. Name all sources, or choose another "
            "folder."
        )


def precision_of(out: Path) -> str | None:
    """The precision in which the encoder of a set computed; None where the set does not name it."""
    try:
        settings: dict[str, str] = dict(json.loads((out / SETTINGS_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # made by another program, copied without this file, or damaged
        return None
    return settings.get("precision")


def finished_shards(
    out: Path, hashed: Collection[str] | None = None, remote: Mapping[str, int] | None = None
) -> dict[str, ShardEntry]:
    """Return the shards of a set, finished or not, whose bytes are right, by name.

    Args:
        out: Folder of the set.
        hashed: Names of the shards whose bytes are read. Of the others the size alone is checked. None reads all.
        remote: Sizes of the shards of a set behind a URL, which are all that is checked of them.
    """
    try:
        entries = {shard.name: shard for shard in Manifest.load(out).shards}
    except ValueError:  # missing or damaged: only shards with an entry of their own are kept
        entries = {}
    for path in sorted(out.glob("*.tar.json")):
        try:
            entries[path.name.removesuffix(".json")] = ShardEntry.from_json(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:  # another process has finished the set
            continue
        except (ValueError, KeyError, TypeError, AttributeError):
            path.unlink()
    if remote is not None:
        return {name: entry for name, entry in entries.items() if remote.get(name) == entry.bytes}
    checked = track(entries.values(), "reading finished shards", disable=not (entries and sys.stdout.isatty()))
    checks: dict[bool, Check] = {True: "sha256", False: "size"}
    return {one.name: one for one in checked if not one.problem(out, checks[hashed is None or one.name in hashed])}


def is_finished(out: Path, entries: Mapping[str, ShardEntry]) -> bool:
    """Whether the manifest holds exactly these shards. Versions of sources may differ."""
    try:
        shards = Manifest.load(out).shards
    except ValueError:
        return False
    return {shard.name: _without_version(shard) for shard in shards} == {
        name: _without_version(entry) for name, entry in entries.items()
    }


def _without_version(entry: ShardEntry) -> ShardEntry:
    return replace(entry, source=entry.source and replace(entry.source, version=""))


def forget(out: Path, entry: ShardEntry) -> None:
    """Remove what vouches for other bytes of a shard than those of ``entry``, which it is about to get.

    That is its own entry, and the manifest. The other shards of the manifest get entries of their own.
    """
    (out / f"{entry.name}.json").unlink(missing_ok=True)
    try:
        shards = Manifest.load(out).shards
    except ValueError:  # missing or damaged: it vouches for nothing
        return
    if has_other_bytes(shards, entry):
        for other in shards:
            path = out / f"{other.name}.json"
            if other.name != entry.name and not path.exists():
                write_json(path, other.to_json())
        (out / MANIFEST_NAME).unlink(missing_ok=True)


def has_other_bytes(shards: list[ShardEntry], entry: ShardEntry) -> bool:
    """Whether the shard of this name has other bytes than those of ``entry``."""
    return any(shard.name == entry.name and shard.sha256 != entry.sha256 for shard in shards)


def finish_set(out: Path, space: ClipSpace, manifest: Manifest, read: ReadBytes | None = None) -> Manifest:
    """Write space and manifest, and remove the files of the unfinished set. Files that would not change are kept.

    ``read`` reads shards that are not in ``out``.
    """
    if not manifest.pairs:
        reasons = by_kind(pair for shard in manifest.shards for pair in shard.skipped)
        raise ValueError(f"The sources hold no pair that could be embedded ({reasons or 'they are empty'}).")
    measured = replace(space, **image_statistics(out, manifest.shards, space.dim, read)._asdict())
    manifest = replace(manifest, space_sha256=write_space(out, measured))
    try:
        before = Manifest.load(out)
        unchanged = before == manifest and before.space_sha256 == manifest.space_sha256
    except ValueError:
        unchanged = False
    if not unchanged:
        manifest.save(out)
    for pattern in ("*.tar.json", f"*.tar{CACHE}", "*.partial"):
        for temporary in out.glob(pattern):
            if not is_being_written(temporary):  # another task may repair a shard
                temporary.unlink(missing_ok=True)
    return manifest


def write_space(folder: Path, space: ClipSpace) -> str:
    """Write ``space.safetensors`` atomically, unless it already holds these bytes, and return their SHA-256."""
    path, content = folder / SPACE_NAME, space.to_bytes()
    try:
        if not path.is_file() or path.read_bytes() != content:
            write_atomically(path, content)
    except OSError as error:
        raise disk_error(error, folder) from error
    return hashlib.sha256(content).hexdigest()
