"""Depth from one image, for "in front of" and "behind"."""

from __future__ import annotations

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from eclipse_pl.scorers.finite import require_finite
from eclipse_pl.scorers.network import PretrainedNetwork


class DptDepth(PretrainedNetwork):
    """A ``DPTForDepthEstimation``, such as T2I-CompBench's ``Intel/dpt-hybrid-midas``.

    T2I-CompBench reads it at 480 pixels. This class reads it at the model's own 384.
    """

    classes = ("DPTForDepthEstimation",)
    reads = ("image_processor",)
    unused = r"neck\.fusion_stage\.layers\.0\.residual_layer1\."  # the first layer reads no residual; Intel's weights lack it

    def nearness(self, images: list[Image.Image]) -> list[Float[Tensor, "height width"]]:
        """Return the inverse depth of every pixel, from 0 (the farthest of its image) to 1 (the nearest)."""
        pixels = self.image_processor(images=images, return_tensors="pt")["pixel_values"].to(self.device, self.precision)
        maps = []
        predicted = require_finite(self.model(pixel_values=pixels).predicted_depth.float())
        for depth, image in zip(predicted, images, strict=True):
            spread = depth.max() - depth.min()
            scaled = (depth - depth.min()) / spread if spread > 0 else torch.zeros_like(depth)
            size = (image.height, image.width)
            maps.append(F.interpolate(scaled[None, None], size, mode="bilinear", align_corners=True)[0, 0].cpu())
        return maps
