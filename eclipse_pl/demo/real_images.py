"""RealImages: the real images of one split that the demo shows beside the generated ones."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.demo.answer import Neighbour
from eclipse_pl.embedding import ClipSpace
from eclipse_pl.raw.image import ImageReader
from eclipse_pl.raw.real_pairs import RealPairs, read_images
from eclipse_pl.raw.source import Source

SIDE = 128
"""Longest side of an image that is kept, in pixels."""


@dataclass(frozen=True, eq=False)
class RealImages:
    """Pairs and their images, small and in memory."""

    pairs: RealPairs
    images: list[Image.Image]
    """An image a pair."""

    @classmethod
    def read(
        cls, folder: str, split: str, most: int, space: ClipSpace, images: Source | str | list[str] | None = None
    ) -> RealImages:
        """The first ``most`` pairs of a split of the shards in ``folder``.

        Args:
            folder: The set of shards.
            split: Its split.
            most: The number of pairs; each image takes up to 48 KB of memory.
            space: The space of the embeddings that are searched for.
            images: The source of the images; None for those that the set was made of.

        Raises:
            ValueError: The shards belong to another space, or lack the split, or an image is missing.
        """
        shards = ShardSet(folder)
        space.require_same(shards.space, "the prior", f"the shards {shards.name}")
        pairs = RealPairs.read(shards, split, most)
        sources = shards.manifest.sources if images is None else [images] if isinstance(images, str | Source) else list(images)
        found = read_images(sources, pairs.images, ImageReader.of(shards.manifest.images))
        for image in found.values():
            image.thumbnail((SIDE, SIDE))
        return cls(pairs, [found[name] for name in pairs.images])

    def nearest(self, embeds: Float[Tensor, "batch dim"], count: int) -> list[list[Neighbour]]:
        """Of each embedding the ``count`` nearest images by cosine."""
        return [
            [Neighbour(self.images[row], self.pairs.captions[row], cosine) for cosine, row in found]
            for found in self.pairs.nearest(embeds, count)
        ]
