"""RealPairs: the pairs of one split of a set of shards, searched by image embedding, and their images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from eclipse_pl.data.manifest import SkippedPair
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.raw.find_sources import Given, find_sources


@dataclass(frozen=True, eq=False)
class RealPairs:
    """Keys, captions and image embeddings of pairs, in memory."""

    keys: list[str]
    captions: list[str]
    directions: Float[Tensor, "pairs dim"]
    """Image embeddings of length 1."""

    @classmethod
    def read(cls, shards: ShardSet, split: str, most: int | None = None) -> RealPairs:
        """The pairs of a split, or the first ``most`` of them.

        Raises:
            ValueError: The set has no such split.
        """
        records = shards.records(split)
        if not len(records):
            raise ValueError(f"{shards.name} has no split {split!r}; it has {', '.join(shards.manifest.splits)}.")
        images: list[np.ndarray] = []
        keys: list[str] = []
        captions: list[str] = []
        with shards.read_ahead(records):
            for record in records:
                if most is not None and len(keys) >= most:
                    break
                chunk = shards.read_chunk(record, with_states=False)
                images.append(chunk.image_embed.astype(np.float32))  # a copy, so that the record is not kept open
                keys += chunk.keys
                captions += chunk.captions
        embeds = torch.from_numpy(np.concatenate(images))
        return cls(keys[:most], captions[:most], normalize(embeds[:most], dim=-1))

    def nearest(self, embeds: Float[Tensor, "batch dim"], count: int) -> list[list[tuple[float, int]]]:
        """Of each embedding the ``count`` nearest pairs by cosine: the cosine, and the number of the pair."""
        cosines, rows = (normalize(embeds, dim=-1) @ self.directions.T).topk(min(count, len(self.keys)))
        return [list(zip(*found, strict=True)) for found in zip(cosines.tolist(), rows.tolist(), strict=True)]


def read_images(sources: Sequence[Given], keys: set[str]) -> dict[str, Image.Image]:
    """The images of these keys, from the sources of a set.

    Raises:
        ValueError: A source or an image is missing.
    """
    remedy = "Give the source that the shards were made of, for example --images 'raw/*.tar'."
    try:
        parts = list(find_sources(sources).parts.values())
    except ValueError as error:
        raise ValueError(f"{error} {remedy}") from error
    images: dict[str, Image.Image] = {}
    for part in parts:
        if keys <= images.keys():
            break
        for found in part.read():
            for pair in [] if isinstance(found, SkippedPair) else found:
                if pair.key in keys:
                    images[pair.key] = Image.open(io.BytesIO(pair.image)).convert("RGB")
    if missing := sorted(keys - images.keys()):
        raise ValueError(f"No image of {missing[0]} in {', '.join(map(str, parts))}. {remedy}")
    return images
