from __future__ import annotations

from collections.abc import Callable

import torch
from PIL import Image

from eclipse_pl.arguments import require_whole
from eclipse_pl.device import free_memory


class Batches:
    """Generates images in batches, and halves the batch where memory runs out.

    Every batch has the same shape: the last one is filled up. Another shape changes the order of summation, and an image
    would then depend in its last bits on the other images of its batch.

    Args:
        size: Images at a time.
        model: Name of the model, for errors.
        device: Device that generates.
        remedy: What the user can do where not even one image fits.
    """

    def __init__(self, size: int, model: str, device: torch.device, remedy: str) -> None:
        require_whole("batch_size", size, 1)
        self.size, self.model, self.device, self.remedy = size, model, device, remedy

    def generate(self, count: int, generate: Callable[[list[int]], list[Image.Image]], fill: bool = True) -> list[Image.Image]:
        """Return ``count`` images. ``generate`` gets the numbers of the images of one batch, which ``fill`` fills up.

        Raises:
            ValueError: Not even one image fits into the memory.
        """
        images: list[Image.Image] = []
        while (done := len(images)) < count:
            try:
                rows = range(done, done + self.size if fill else min(count, done + self.size))
                generated = generate([min(row, count - 1) for row in rows])
            except RuntimeError as error:
                if not lacks_memory(error):
                    raise
                generated = None
            if generated is None:  # outside of `except`, which would keep the failed batch alive
                free_memory(self.device)
                self._halve()
            else:
                images += generated[: count - done]
        return images

    def _halve(self) -> None:
        if self.size == 1:
            raise ValueError(f"Not even one image of {self.model} fits into the memory of {self.device}. {self.remedy}")
        self.size //= 2
        print(f"The memory of {self.device} does not suffice: generating {self.size} images at a time.", flush=True)


def lacks_memory(error: RuntimeError) -> bool:
    """Return whether memory ran out. The allocators of the CPU and of Apple's GPU raise a plain RuntimeError."""
    sentences = ("can't allocate memory", "MPS backend out of memory")
    return isinstance(error, torch.OutOfMemoryError) or any(sentence in str(error) for sentence in sentences)
