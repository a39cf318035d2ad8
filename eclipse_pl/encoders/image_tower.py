"""ImageTower: the image tower of an encoder with free inputs in place of an image, differentiable by them."""

from __future__ import annotations

from math import isqrt
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from eclipse_pl.encoders.openclip import OpenClipEncoder


class ImageTower:
    """Turns a few free vectors a caption into image embeddings, for `OviPrior`.

    A vision transformer reads them in place of the embeddings of its patches, each for a run of neighbouring patches, as in
    the code of Mistretta et al. 2025 ("Cross the Gap"). Another tower, such as a ResNet, reads them as the pixels of a coarse
    image, which is ours. The encoder's weights get no gradient.

    Args:
        encoder: The CLIP of the prior's space.
        inputs: Number of free vectors. Mistretta et al.: 1 for ViT-B/32, 4 for OpenAI's ViT-L/14, 2 for OpenCLIP's. For a
            ResNet it is a square, such as 64.

    Raises:
        ValueError: The number does not fit the tower.
    """

    def __init__(self, encoder: OpenClipEncoder, inputs: int = 4) -> None:
        encoder.place("image")
        self.encoder, self.inputs = encoder, inputs
        self.visual: Any = encoder.model.visual
        self.patches = len(self.visual.positional_embedding) - 1 if hasattr(self.visual, "class_embedding") else None
        most = self.patches or encoder.image_size**2
        if not 1 <= inputs <= most or (self.patches is None and isqrt(inputs) ** 2 != inputs):
            form = "" if self.patches else ", a square number"
            raise ValueError(f"inputs is {inputs}; the image tower of {encoder.tag} takes 1 to {most} free inputs{form}.")
        self.width = self.visual.class_embedding.shape[-1] if self.patches else 3

    @property
    def device(self) -> torch.device:
        return self.encoder.device

    def __call__(self, free: Float[Tensor, "batch inputs width"]) -> Float[Tensor, "batch dim"]:
        """Raw image embeddings, float32."""
        rows = free.transpose(1, 2)
        if self.patches is None:
            side, size = isqrt(self.inputs), self.encoder.image_size
            pixels = F.interpolate(rows.unflatten(2, (side, side)), size=(size, size), mode="nearest")
            embeds: Tensor = self.visual(pixels)
            return embeds.float()
        visual = self.visual
        patches = F.interpolate(rows, size=self.patches, mode="nearest").transpose(1, 2)
        start = visual.class_embedding.expand(len(free), 1, -1)
        hidden = visual.ln_pre(torch.cat([start, patches], 1) + visual.positional_embedding)
        pooled, _ = visual._pool(visual.transformer(hidden))
        return (pooled if visual.proj is None else pooled @ visual.proj).float()
