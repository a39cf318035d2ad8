"""Depth from one image, for what stands in front of what."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from eclipse_pl.scorers.network import PretrainedNetwork


class DptDepth(PretrainedNetwork):
    """A ``DPTForDepthEstimation``; T2I-CompBench's is ``Intel/dpt-hybrid-midas``, read at 480 pixels, and here at its 384."""

    classes: ClassVar[tuple[str, ...]] = ("DPTForDepthEstimation",)
    unused = r"neck\.fusion_stage\.layers\.0\.residual_layer1\."  # the first layer has no residual to read; Intel's lack it

    @cached_property
    def image_processor(self) -> Any:
        return self.processor("AutoImageProcessor")

    def nearness(self, images: list[Image.Image]) -> list[Float[Tensor, "height width"]]:
        """Inverse depth of every pixel, 0 (the farthest of its image) to 1 (the nearest)."""
        pixels = self.image_processor(images=images, return_tensors="pt")["pixel_values"].to(self.device, self.precision)
        maps = []
        for depth, image in zip(self.model(pixel_values=pixels).predicted_depth.float(), images, strict=True):
            spread = depth.max() - depth.min()
            scaled = (depth - depth.min()) / spread if spread > 0 else torch.zeros_like(depth)
            size = (image.height, image.width)
            maps.append(F.interpolate(scaled[None, None], size, mode="bilinear", align_corners=True)[0, 0].cpu())
        return maps
