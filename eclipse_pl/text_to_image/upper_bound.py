from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from eclipse_pl.decoders.decoder import Decoder
from eclipse_pl.prompts.prompt import Prompt
from eclipse_pl.text_to_image.text_to_image import TextToImage
from eclipse_pl.world.drawing import render
from eclipse_pl.world.encoder import WorldEncoder
from eclipse_pl.world.prompts import scene_of

TRUE_IMAGE = "true image"
"""The upper bound's name among the priors."""


class UpperBound(TextToImage):
    """The upper bound of the world's tables: the true image of each prompt -> its image embedding -> decoder -> image.

    A perfect prior would reach it with this decoder.

    Args:
        decoder: The world's decoder.
        prompt_seed: Seed of the prompts (`WorldPrompts`).
    """

    def __init__(self, decoder: Decoder, prompt_seed: int = 0) -> None:
        self.decoder, self.prompt_seed = decoder, prompt_seed
        self.encoder = WorldEncoder()

    @property
    def identity(self) -> dict[str, Any]:
        return {"prior": TRUE_IMAGE, "encoder": self.encoder.tag, "decoder": self.decoder.identity, "seed": self.prompt_seed}

    def require_ready(self) -> None:
        zeros = torch.zeros(self.encoder.dim)
        self.decoder.require_space(self.encoder.space(zeros, zeros), "the true image")

    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Image.Image]:
        images = [render(scene_of(prompt, self.prompt_seed)) for prompt in prompts]
        embeds = self.encoder.encode_images(torch.stack([self.encoder.image_transform(one) for one in images]))
        return self.decoder.decode(embeds.cpu(), [prompt.text for prompt in prompts], list(seeds))

    def close(self) -> None:
        self.decoder.close()
