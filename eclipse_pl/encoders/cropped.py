from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from PIL import Image
from torch import Tensor


class Cropped:
    """Crops an image to its middle before ``transform``, where its long side is more than ``most`` times the short one.

    CLIP's transform makes the short side as long as the model's input and crops the middle then, so that a line of
    1 x 16,000 pixels (a few hundred bytes) would become 224 x 3,584,000 on its way: 2 GB. Of images that are no more than
    ``most`` times as long as wide nothing is cropped here.
    """

    def __init__(self, transform: Callable[[Image.Image], Tensor], most: int) -> None:
        self.transform = transform
        self.most = most

    def __call__(self, image: Image.Image) -> Float[Tensor, "3 height width"]:
        longest = self.most * min(image.size)
        if max(image.size) > longest:
            # as even or odd as the side, so that the middle stays where it was
            width, height = (min(side, longest + (side - longest) % 2) for side in image.size)
            left, top = (image.width - width) // 2, (image.height - height) // 2
            image = image.crop((left, top, left + width, top + height))
        return self.transform(image)
