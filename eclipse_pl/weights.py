"""Where weights lie (a folder, or a repository of the Hugging Face hub) and what names them (their hash)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def find_folder(where: str, files: Sequence[str]) -> Path:
    """The folder ``where``, or, where there is none, the hub's repository of that id, of which only ``files`` are downloaded.

    Args:
        where: a folder, or ``owner/name``, or ``owner/name@revision`` (``@refs/pr/3`` is a pull request).
        files: patterns of file names.
    """
    folder = Path(where).expanduser()
    if folder.is_dir():
        return folder
    # owner/name may be a mistyped relative path, and then its first part is there
    if not _HUB_ID.fullmatch(where) or where.startswith(".") or Path(where.split("/")[0]).is_dir():
        near = get_close_matches(folder.name, [p.name for p in folder.parent.glob("*/")], n=3, cutoff=0.5)
        raise ValueError(
            f"There is no folder {where}. {did_you_mean([str(folder.parent / name) for name in near])}"
            "Give a folder that is there, or the id of a repository of the Hugging Face hub (owner/name)."
        )
    from huggingface_hub import snapshot_download

    repository, _, revision = where.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(files)))
    except Exception as error:  # the hub's client raises a dozen kinds, for the network, the id and permissions
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ValueError(
            f"{where} is no folder here, and could not be had from the Hugging Face hub ({reason}). Connect this machine "
            "once, or copy the repository here and give its folder."
        ) from error


def sha256_of(path: Path) -> str:
    """First 16 digits of the file's hash. The hub's cache names large files by theirs; others are read once a process."""
    blob = path.resolve()
    if blob.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", blob.name):
        return blob.name[:16]
    stat = blob.stat()
    return _sha256(blob, stat.st_mtime_ns, stat.st_size)


@lru_cache
def _sha256(path: Path, _modified: int, _size: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()[:16]


def did_you_mean(matches: Sequence[str]) -> str:
    return f"Did you mean {' or '.join(matches)}? " if matches else ""
