"""RealPairs: the pairs of one split of a set of shards, searched by image embedding, and their images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from eclipse_pl.data.manifest import SkippedPair
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.raw.find_sources import Given, find_sources
from eclipse_pl.raw.image import BadImageError, ImageReader

ImageName = tuple[str, int]
"""The key of a pair and the number of its image. The number is equal for all captions of an image, whose keys differ; two
sources may have images of one key."""


@dataclass(frozen=True, eq=False)
class RealPairs:
    """Names, captions and image embeddings of pairs, in memory."""

    images: list[ImageName]
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
        names: list[ImageName] = []
        captions: list[str] = []
        with shards.read_ahead(records):
            for record in records:
                if most is not None and len(names) >= most:
                    break
                chunk = shards.read_chunk(record, with_states=False)
                images.append(chunk.image_embed.astype(np.float32))  # a copy, so that the record is not kept open
                names += zip(chunk.keys, shards.groups(record).tolist(), strict=True)
                captions += chunk.captions
        embeds = torch.from_numpy(np.concatenate(images))
        return cls(names[:most], captions[:most], normalize(embeds[:most], dim=-1))

    @cached_property
    def most_captions(self) -> int:
        """Pairs of the image that has the most of them."""
        return max(Counter(number for _, number in self.images).values())

    def nearest(self, embeds: Float[Tensor, "batch dim"], count: int) -> list[list[tuple[float, int]]]:
        """Of each embedding the ``count`` nearest images by cosine: the cosine, and the number of the image's nearest pair.

        An image with several captions is there once, so there are fewer where the split has fewer images.
        """
        most = min(count * self.most_captions, len(self.images))  # among so many pairs are ``count`` images
        cosines, rows = (normalize(embeds, dim=-1) @ self.directions.T).topk(most)
        return [self._once(*found, count) for found in zip(cosines.tolist(), rows.tolist(), strict=True)]

    def _once(self, cosines: list[float], rows: list[int], count: int) -> list[tuple[float, int]]:
        """The first pair of each image, of the first ``count`` images."""
        first: dict[int, tuple[float, int]] = {}
        for cosine, row in zip(cosines, rows, strict=True):
            first.setdefault(self.images[row][1], (cosine, row))
        return list(first.values())[:count]


def read_images(sources: Sequence[Given], names: Collection[ImageName], reader: ImageReader) -> dict[ImageName, Image.Image]:
    """The images of these names in RGB, from the sources of a set, as its encoder saw them.

    ``reader`` is that of the set, `ImageReader.of` its manifest's settings.

    If no image of a key has the number, as with imported embeddings, the first image of the key is taken.

    Raises:
        ValueError: A source or an image is missing, or an image cannot be decoded.
    """
    remedy = "Give the source that the shards were made of, for example --images 'raw/*.tar'."
    try:
        parts = list(find_sources(sources).parts.values())
    except ValueError as error:
        raise ValueError(f"{str(error).replace('--source.', '--images.')} {remedy}") from error
    named, keys = set(names), {key for key, _ in names}
    images: dict[ImageName, Image.Image] = {}
    of_keys: dict[str, bytes] = {}

    def decoded(key: str, image: bytes) -> Image.Image:
        try:
            return reader(image).convert("RGB")
        except BadImageError as error:
            raise ValueError(f"The image of {key} cannot be decoded ({error}). {remedy}") from error

    for part in parts:
        if named <= images.keys():
            break
        for found in part.read():
            for pair in [] if isinstance(found, SkippedPair) else found:
                if (pair.key, pair.image_number) in named:
                    images[pair.key, pair.image_number] = decoded(pair.key, pair.image)
                elif pair.key in keys:
                    of_keys.setdefault(pair.key, pair.image)
    if missing := sorted(key for key, _ in named - images.keys() if key not in of_keys):
        raise ValueError(f"No image of {missing[0]} in {', '.join(map(str, parts))}. {remedy}")
    return images | {name: decoded(name[0], of_keys[name[0]]) for name in named - images.keys()}
