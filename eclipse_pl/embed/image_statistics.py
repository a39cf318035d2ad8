"""Mean, standard deviation and covariance of the image embeddings that a set of shards holds."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eclipse_pl.data.chunk import member_name
from eclipse_pl.data.manifest import RecordEntry, ShardEntry

STATISTICS_BLOCK = 4096
"""Embeddings converted to float64 at a time."""


class ImageStatistics(NamedTuple):
    """Statistics of the training pairs' image embeddings, by the names of ClipSpace's fields."""

    image_mean: Float[Tensor, " dim"]
    image_std: Float[Tensor, " dim"]
    image_covariance: Float[Tensor, "dim dim"]


ReadBytes = Callable[[str, int, int], bytes]
"""From the name of a shard to its bytes from one place to another."""


def image_statistics(folder: str | Path, shards: list[ShardEntry], dim: int, read: ReadBytes | None = None) -> ImageStatistics:
    """Compute mean, standard deviation and covariance of the training pairs' stored image embeddings, in float64.

    An image counts once for each of its pairs. In a set without a training split all pairs count. ``read`` reads shards that
    are not in the folder.

    Raises:
        ValueError: The set is empty.
    """
    read = read or partial(read_file, Path(folder))
    records = [(shard.name, record) for shard in shards for record in shard.records]
    training = [(name, record) for name, record in records if record.split == "train"] or records
    if not training:
        raise ValueError(f"{folder} holds no pair, so its space has no statistics.")
    count, total, products = 0, np.zeros(dim), np.zeros((dim, dim))
    for name, record in training:
        image_embed = read_array(read, name, record, "image_embed")
        if member_name("image_rows") in record.members:
            image_embed = image_embed[read_array(read, name, record, "image_rows")]
        for first in range(0, len(image_embed), STATISTICS_BLOCK):
            block = image_embed[first : first + STATISTICS_BLOCK].astype(np.float64)
            count, total, products = count + len(block), total + block.sum(0), products + block.T @ block
    mean = total / count
    covariance = products / count - np.outer(mean, mean)
    std = np.sqrt(np.maximum(covariance.diagonal(), 0))
    return ImageStatistics(*(torch.from_numpy(numbers).float() for numbers in (mean, std, covariance)))


def read_array(read: ReadBytes, shard: str, record: RecordEntry, field: str) -> np.ndarray:
    """Read one array of a record, without unpickling."""
    start, size = record.members[member_name(field)]
    return np.lib.format.read_array(io.BytesIO(read(shard, start, start + size)), allow_pickle=False)


def read_file(folder: Path, name: str, start: int, stop: int) -> bytes:
    """Bytes of a local file."""
    with (folder / name).open("rb") as file:
        file.seek(start)
        return file.read(stop - start)
