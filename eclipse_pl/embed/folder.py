"""The folder of a set of shards while a command writes it: its lock, its finished shards, its manifest.

Each finished shard has a manifest entry in its own file (``0000.tar.json``). A resumed run keeps the shards whose entry
exists and whose bytes are right. At the end the entries are joined in manifest.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from rich.progress import track
from torch import Tensor

from eclipse_pl.data.chunk import member_name
from eclipse_pl.data.manifest import MANIFEST_NAME, SPACE_NAME, Manifest, RecordEntry, ShardEntry
from eclipse_pl.embedding import ClipSpace
from eclipse_pl.files import disk_error, only_process, write_atomically, write_json
from eclipse_pl.raw.reasons import by_kind
from eclipse_pl.raw.splits import CACHE

SETTINGS_NAME = "embed.json"
"""Settings that all shards of a set share: space, form of the captions, chunk and the fractions of the splits."""
LOCK_NAME = "embed.lock"
STATISTICS_BLOCK = 4096
"""Embeddings converted to float64 at a time."""


def only_run(out: Path) -> AbstractContextManager[None]:
    """Lock ``out`` for this process.

    Raises:
        ValueError: Another process embeds into it.
    """
    return only_process(out, LOCK_NAME, f"Another run is embedding into {out}. Wait for it, or choose another folder.")


def require_same_settings(out: Path, settings: dict[str, Any], named: Collection[str]) -> None:
    """Check that every shard in ``out`` is among ``named`` and was made with these settings.

    Raises:
        ValueError: A shard is not, or the file of settings is damaged.
    """
    path = out / SETTINGS_NAME
    shards = sorted(file.name for file in out.glob("*.tar"))
    if not path.is_file():
        if shards or (out / MANIFEST_NAME).exists():
            raise ValueError(
                f"{out} already holds {(shards or [MANIFEST_NAME])[0]}, not made by this command. Choose another folder."
            )
        write_json(path, settings)
        return
    try:
        before = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged ({error}), so the settings of the shards in {out} are lost. Choose another folder."
        ) from error
    if differing := [name for name in settings if before.get(name) != settings[name]]:
        changes = "; ".join(f"{name}: {before.get(name)} there, {settings[name]} now" for name in differing)
        raise ValueError(
            f"{out} holds shards with other settings ({changes}). Use the same settings, or choose another folder."
        )
    if strange := [name for name in shards if name not in named]:
        raise ValueError(
            f"{out} holds {strange[0]}, which is not a shard of the given sources. Name all sources, or choose another folder."
        )


def finished_shards(out: Path) -> dict[str, ShardEntry]:
    """Return the shards of a set, finished or not, whose bytes are right, by name."""
    try:
        entries = {shard.name: shard for shard in Manifest.load(out).shards}
    except ValueError:  # missing or damaged: only shards with an entry of their own are kept
        entries = {}
    for path in sorted(out.glob("*.tar.json")):
        try:
            entries[path.name.removesuffix(".json")] = ShardEntry.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError, AttributeError):
            path.unlink()
    checked = track(entries.values(), "reading finished shards", disable=not (entries and sys.stdout.isatty()))
    return {entry.name: entry for entry in checked if not entry.problem(out)}


class ImageStatistics(NamedTuple):
    """Statistics of the training pairs' image embeddings, by the names of ClipSpace's fields."""

    image_mean: Float[Tensor, " dim"]
    image_std: Float[Tensor, " dim"]
    image_covariance: Float[Tensor, "dim dim"]


def image_statistics(folder: Path, shards: list[ShardEntry], dim: int) -> ImageStatistics:
    """Compute mean, standard deviation and covariance of the training pairs' stored image embeddings, in float64.

    An image counts once for each of its pairs. In a set without a training split all pairs count.

    Raises:
        ValueError: The set is empty.
    """
    records = [(folder / shard.name, record) for shard in shards for record in shard.records]
    training = [(path, record) for path, record in records if record.split == "train"] or records
    if not training:
        raise ValueError(f"{folder} holds no pair, so its space has no statistics.")
    count, total, products = 0, np.zeros(dim), np.zeros((dim, dim))
    for path, record in training:
        image_embed = read_array(path, record, "image_embed")
        if member_name("image_rows") in record.members:
            image_embed = image_embed[read_array(path, record, "image_rows")]
        for first in range(0, len(image_embed), STATISTICS_BLOCK):
            block = image_embed[first : first + STATISTICS_BLOCK].astype(np.float64)
            count, total, products = count + len(block), total + block.sum(0), products + block.T @ block
    mean = total / count
    covariance = products / count - np.outer(mean, mean)
    std = np.sqrt(np.maximum(covariance.diagonal(), 0))
    return ImageStatistics(*(torch.from_numpy(numbers).float() for numbers in (mean, std, covariance)))


def read_array(path: Path, record: RecordEntry, field: str) -> np.ndarray:
    """Read one array of a record, without unpickling."""
    with path.open("rb") as file:
        file.seek(record.members[member_name(field)][0])
        return np.lib.format.read_array(file, allow_pickle=False)


def finish_set(out: Path, space: ClipSpace, manifest: Manifest) -> Manifest:
    """Write space and manifest, and remove the files of the unfinished set. Files that would not change are kept."""
    if not manifest.pairs:
        reasons = by_kind(pair for shard in manifest.shards for pair in shard.skipped)
        raise ValueError(f"The sources hold no pair that could be embedded ({reasons or 'they are empty'}).")
    write_space(out, replace(space, **image_statistics(out, manifest.shards, space.dim)._asdict()))
    try:
        unchanged = Manifest.load(out) == manifest
    except ValueError:
        unchanged = False
    if not unchanged:
        manifest.save(out)
    for temporary in [*out.glob("*.tar.json"), *out.glob(f"*.tar{CACHE}")]:
        temporary.unlink()
    return manifest


def write_space(folder: Path, space: ClipSpace) -> None:
    """Write ``space.safetensors`` atomically, unless it already holds these bytes."""
    path, content = folder / SPACE_NAME, space.to_bytes()
    try:
        if not path.is_file() or path.read_bytes() != content:
            write_atomically(path, content)
    except OSError as error:
        raise disk_error(error, folder) from error
