"""The world's encoder as slow as a large CLIP, so that a test can kill a command in the middle."""

from __future__ import annotations

import time

from jaxtyping import Float
from torch import Tensor

from eclipse_pl.world.encoder import WorldEncoder


class SlowWorldEncoder(WorldEncoder):
    """Waits before each batch of images."""

    def encode_images(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        time.sleep(1.0)
        return super().encode_images(pixels)
