"""Images -> pixels for networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def squashed(
    images: Sequence[Image.Image], side: int, mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "images 3 side side"]:
    """Resize images to squares of ``side`` pixels, bicubic and uncropped, and normalise them."""
    squares = [np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)) for image in images]
    pixels = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
