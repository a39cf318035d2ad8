from __future__ import annotations

import gc
from collections.abc import Callable

import torch
from PIL import Image


class Batches:
    """Images so many at a time, and half as many where memory does not suffice.

    Every batch has the same shape, the last one filled up: in another shape sums are taken in another order, and an image
    would differ in its last bits with what is generated beside it.

    Args:
        size: images at a time.
        model: whose images they are, in errors.
        device: that generates them.
        remedy: what can be done where not even one image fits.
    """

    def __init__(self, size: int, model: str, device: torch.device, remedy: str) -> None:
        if size < 1:
            raise ValueError(f"batch_size {size} generates nothing: it must be 1 or more.")
        self.size, self.model, self.device, self.remedy = size, model, device, remedy

    def generate(self, count: int, generate: Callable[[list[int]], list[Image.Image]]) -> list[Image.Image]:
        """``count`` images; ``generate`` gets the numbers of those of one batch.

        Raises:
            ValueError: the memory does not suffice for a single one.
        """
        images: list[Image.Image] = []
        while (done := len(images)) < count:
            try:
                generated = generate([min(row, count - 1) for row in range(done, done + self.size)])
            except RuntimeError as error:
                if not lacks_memory(error):
                    raise
                generated = None
            if generated is None:  # outside of `except`, which would keep what was computed alive
                collect(self.device)
                self._halve()
            else:
                images += generated[: count - done]
        return images

    def _halve(self) -> None:
        if self.size == 1:
            raise ValueError(f"Not even one image of {self.model} fits into the memory of {self.device}. {self.remedy}")
        self.size //= 2
        print(f"The memory of {self.device} does not suffice: generating {self.size} images at a time.", flush=True)


def collect(device: torch.device) -> None:
    """Give memory back that nothing refers to any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def lacks_memory(error: RuntimeError) -> bool:
    """torch has a class of its own for a GPU's memory; the CPU's allocator raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
