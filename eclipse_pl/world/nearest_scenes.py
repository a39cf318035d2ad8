"""NearestScenes: the decoder without a network, which shows the scenes whose image embeddings lie nearest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from eclipse_pl.decoders.decoder import Decoder, Embeds
from eclipse_pl.files import cache_folder
from eclipse_pl.kept_array import kept_array
from eclipse_pl.open_clip_model import local_dir_tag, model_config
from eclipse_pl.world.drawing import render
from eclipse_pl.world.encoder import FOLDER, WorldEncoder
from eclipse_pl.world.scenes import CATEGORIES, Scene, draw_scene
from eclipse_pl.world.splits import GALLERY

BATCH = 256
"""Images that are encoded at a time."""


class NearestScenes(Decoder):
    """Shows the scene of a gallery whose image embedding lies nearest to an embedding, by cosine.

    The world's learned decoder makes errors of its own, and may hide what distinguishes two priors, or show a difference
    that embeddings do not have. This one reads an embedding without a learned part, and the oracle scores its images as
    those of any decoder. The upper bound is below 1, because no gallery holds a scene for every caption: always compare
    with the row of the true image.

    Args:
        scenes: Number of scenes in the gallery: all categories in turn, all compositions and splits. 20,000 take a minute,
            once: their embeddings are kept in the user's cache.
        neighbours: Number of neighbours that the seeds of a prompt show in turn: seed s shows neighbour ``s % neighbours``.
            With 1 every seed shows the nearest. With 5 and five images a prompt, each of the five is scored once.
        seed: Seed of the gallery.

    Raises:
        ValueError: A number is out of its range.
    """

    def __init__(self, scenes: int = 20_000, neighbours: int = 1, seed: int = 0) -> None:
        for name, value, smallest in (("scenes", scenes, 1), ("neighbours", neighbours, 1), ("seed", seed, 0)):
            if value < smallest:
                raise ValueError(f"decoder.{name} is {value}; it must be {smallest} or more.")
        if neighbours > scenes:
            raise ValueError(
                f"decoder.neighbours is {neighbours}, but the gallery has {scenes} scenes: choose {scenes} or fewer."
            )
        self.scenes, self.neighbours, self.seed = scenes, neighbours, seed
        self.space = local_dir_tag(FOLDER)
        self._gallery: Float[Tensor, "scenes dim"] | None = None

    @property
    def dim(self) -> int:
        return int(model_config(f"local-dir:{FOLDER}")["embed_dim"])

    @property
    def takes_negative(self) -> bool:
        return False

    @property
    def identity(self) -> dict[str, Any]:
        return {"model": "nearest scenes", "scenes": self.scenes, "neighbours": self.neighbours, "seed": self.seed}

    def decode(
        self,
        image_embed: Embeds,
        prompts: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
        negative_embed: Embeds | None = None,
    ) -> list[Image.Image]:
        """See `Decoder.decode`. Prompts change nothing.

        Embeddings are searched one at a time, because the last digits of a product depend on its batch.
        """
        self.require_finite(image_embed)
        if negative_embed is not None:
            self.require_negative()
        gallery = self.gallery
        seeds = range(len(image_embed)) if seeds is None else seeds
        images = []
        for embed, seed in zip(image_embed.float().cpu(), seeds, strict=True):
            nearest = (gallery @ normalize(embed, dim=0)).topk(self.neighbours).indices
            images.append(render(self.scene(int(nearest[seed % self.neighbours]))))
        return images

    def scene(self, number: int) -> Scene:
        """Return a scene of the gallery."""
        return draw_scene(CATEGORIES[number % len(CATEGORIES)], (self.seed, GALLERY, number))

    @property
    def gallery(self) -> Float[Tensor, "scenes dim"]:
        """Image embeddings of the scenes, of length 1."""
        if self._gallery is None:
            self._gallery = torch.from_numpy(self._embeds())
        return self._gallery

    def _embeds(self) -> Float[np.ndarray, "scenes dim"]:
        """The gallery from the cache, or made now and kept there. Only one of several processes makes it."""
        first = render(self.scene(0)).tobytes()  # changes with the code that draws
        key = hashlib.sha256(f"{self.space} {self.scenes} {self.seed}".encode() + first).hexdigest()[:16]
        return kept_array(cache_folder("world") / f"{key}.npy", self._encode)

    def _encode(self) -> Float[np.ndarray, "scenes dim"]:
        from rich.progress import track

        encoder = WorldEncoder()
        embeds = []
        for first in track(range(0, self.scenes, BATCH), "gallery of the world's scenes"):
            images = [render(self.scene(number)) for number in range(first, min(first + BATCH, self.scenes))]
            pixels = torch.stack([encoder.image_transform(image) for image in images])
            embeds.append(normalize(encoder.encode_images(pixels), dim=1).cpu().numpy())
        return np.concatenate(embeds)
