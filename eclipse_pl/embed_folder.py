"""The folder of a set of shards while `embed` makes or repairs it: whose it is, what is finished, how it is closed.

While a set is being made, each finished shard has its manifest row beside it (``0000.tar.json``). A run that was killed
and started again keeps the shards whose row is there and whose bytes are right. At the end all rows become manifest.json.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rich.progress import track
from torch import Tensor

from eclipse_pl.data.manifest import MANIFEST_NAME, SPACE_NAME, Manifest, ShardEntry, disk_error, write_json
from eclipse_pl.embedding import ClipSpace
from eclipse_pl.locks import only_process

SETTINGS_NAME = "embed.json"
"""What all shards of a set must share: space, chunk and the fractions of the splits."""
LOCK_NAME = "embed.lock"


def only_run(out: Path) -> AbstractContextManager[None]:
    """Hold ``out`` for this process; ValueError where another one embeds into it."""
    return only_process(out, LOCK_NAME, f"Another run is embedding into {out}. Wait for it, or choose another folder.")


def require_same_settings(out: Path, settings: dict[str, Any], named: Collection[str]) -> None:
    """Refuse to mix: every shard in ``out`` must be one of those ``named``, made with these settings."""
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
            f"{path} is damaged ({error}), so nothing says how the shards beside it were made. Remove {out}."
        ) from error
    if differing := [name for name in settings if before.get(name) != settings[name]]:
        told = "; ".join(f"{name}: {before.get(name)} there, {settings[name]} now" for name in differing)
        raise ValueError(f"{out} holds shards made in another way ({told}). Use the same settings, or choose another folder.")
    if strange := [name for name in shards if name not in named]:
        raise ValueError(
            f"{out} holds {strange[0]}, which the given sources do not make. Name all sources, or choose another folder."
        )


def finished_shards(out: Path) -> dict[str, ShardEntry]:
    """The shards of a finished or unfinished set that are there with the right bytes, by name."""
    try:
        rows = {shard.name: shard for shard in Manifest.load(out).shards}
    except ValueError:  # none yet, or damaged: then only what the rows beside the shards vouch for is kept
        rows = {}
    for path in sorted(out.glob("*.tar.json")):
        try:
            rows[path.name.removesuffix(".json")] = ShardEntry.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError, AttributeError):
            path.unlink()
    quiet = not (rows and sys.stdout.isatty())
    return {row.name: row for row in track(rows.values(), "reading finished shards", disable=quiet) if not row.problem(out)}


def image_statistics(folder: Path, shards: list[ShardEntry], dim: int) -> tuple[Float[Tensor, " dim"], Float[Tensor, " dim"]]:
    """Mean and standard deviation of the training pairs' image embeddings, as they are stored; summed in float64.

    A set without a training split (a test set of its own) takes those of all its pairs. ValueError for an empty set.
    """
    records = [(shard.name, record) for shard in shards for record in shard.records]
    training = [(name, record) for name, record in records if record.split == "train"] or records
    if not training:
        raise ValueError(f"{folder} holds no pair, so its space has no statistics.")
    count, total, squares = 0, np.zeros(dim), np.zeros(dim)
    for name, record in training:
        with (folder / name).open("rb") as file:
            file.seek(record.members["image_embed.npy"][0])
            image_embed = np.lib.format.read_array(file, allow_pickle=False).astype(np.float64)
        count, total, squares = count + len(image_embed), total + image_embed.sum(0), squares + (image_embed**2).sum(0)
    variance = np.maximum(squares / count - (total / count) ** 2, 0)
    return torch.from_numpy(total / count).float(), torch.from_numpy(np.sqrt(variance)).float()


def finish_set(out: Path, space: ClipSpace, manifest: Manifest) -> Manifest:
    """Space, manifest, and away with the rows beside the shards. What is right already is not written again."""
    if not manifest.pairs:
        reasons = sorted({pair.reason for shard in manifest.shards for pair in shard.skipped})
        raise ValueError(f"The sources hold no pair that could be embedded ({'; '.join(reasons) or 'they are empty'}).")
    mean, std = image_statistics(out, manifest.shards, space.dim)
    write_space(out, replace(space, image_mean=mean, image_std=std))
    try:
        unchanged = Manifest.load(out) == manifest
    except ValueError:
        unchanged = False
    if not unchanged:
        manifest.save(out)
    for row in out.glob("*.tar.json"):
        row.unlink()
    return manifest


def write_space(folder: Path, space: ClipSpace) -> None:
    """``space.safetensors``, atomically; left alone where it holds these bytes already."""
    from safetensors import SafetensorError

    path = folder / SPACE_NAME
    partial = path.with_name(path.name + ".partial")
    try:
        space.save(partial)
        partial.chmod(0o644)  # safetensors makes files that nobody but their owner can read
        if path.is_file() and path.read_bytes() == partial.read_bytes():
            partial.unlink()
        else:
            os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise disk_error(error if isinstance(error, OSError) else OSError(str(error)), folder) from error
