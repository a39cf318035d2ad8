from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from PIL import Image
from torch import Tensor


class Cropped:
    """Crops an image to its middle before ``transform``, if its long side is more than ``most`` times its short side.

    CLIP's transform scales the short side to the model's input and then crops the middle. An image of 1 x 16,000 pixels (a
    few hundred bytes) would grow to 224 x 3,584,000 pixels (2 GB). Images with a smaller ratio are not cropped.
    """

    def __init__(self, transform: Callable[[Image.Image], Tensor], most: int) -> None:
        self.transform = transform
        self.most = most

    def __call__(self, image: Image.Image) -> Float[Tensor, "3 height width"]:
        longest = self.most * min(image.size)
        if max(image.size) > longest:
            # even or odd like the side, so that the middle does not move
            width, height = (min(side, longest + (side - longest) % 2) for side in image.size)
            left, top = (image.width - width) // 2, (image.height - height) // 2
            image = image.crop((left, top, left + width, top + height))
        return self.transform(image)
