"""Encoded images -> the batch that an image tower reads, in a worker process or in this one.

Pixels travel from a worker in slots (memory that is used again and again), not in ``/dev/shm``: containers have 64 MB of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from eclipse_pl.data.manifest import SkippedPair, SourceEntry
from eclipse_pl.data.slots import Slots
from eclipse_pl.raw.image import BadImageError, ImageReading, is_memory_error
from eclipse_pl.raw.pairs import RawPair
from eclipse_pl.raw.reasons import BAD_IMAGE, BAD_NEGATIVE, skipped


@dataclass
class EncodedBatch:
    """Pairs of one source as they stand there. ``slot`` is where a worker is to write the pixels, if there is room."""

    shard: str
    pairs: list[RawPair] = field(default_factory=list)
    skipped: list[SkippedPair] = field(default_factory=list)
    others: int = 0
    position: int = 0
    bytes: int = 0
    source: SourceEntry | None = None
    problem: str | None = None
    slot: int | None = None


@dataclass
class DecodedBatch:
    """``batch`` without the bytes of its images and without what could not be decoded.

    ``pixels`` and ``negative_pixels`` are None where they lie in the batch's slot.
    """

    batch: EncodedBatch
    negative_rows: list[int]
    pixels: Float[np.ndarray, "pairs 3 height width"] | None = None
    negative_pixels: Float[np.ndarray, "negatives 3 height width"] | None = None
    out_of_memory: str = ""
    """The key of the pair at whose image memory ran out."""


class ImageDecoder(Dataset[DecodedBatch]):
    """Asked for a batch of encoded images, gives the decoded ones. The 'index' is the batch itself."""

    def __init__(
        self, transform: Callable[[Image.Image], Tensor], reading: ImageReading, batch_size: int, workers: int, held: int
    ) -> None:
        self.transform = transform
        self.reading = reading
        self.batch_size = batch_size
        self.shape = (2 * batch_size, *transform(Image.new("RGB", (64, 64))).shape)
        self.slots = Slots(held, 2 * int(np.prod(self.shape))) if workers else None

    def memory(self, slot: int | None) -> Float[np.ndarray, "room 3 height width"]:
        """Room for the images of a batch, and behind them for those of its counterparts."""
        if self.slots is None or slot is None:
            return np.empty(self.shape, dtype=np.float32)
        return self.slots.memory(slot).view(np.float32)[: int(np.prod(self.shape))].reshape(self.shape)

    def opened(self, decoded: DecodedBatch) -> tuple[Tensor, Tensor]:
        """Pixels of the images and of the counterparts, where the main process reads them."""
        if decoded.pixels is not None and decoded.negative_pixels is not None:
            return torch.from_numpy(decoded.pixels), torch.from_numpy(decoded.negative_pixels)
        assert self.slots is not None and decoded.batch.slot is not None
        numbers = self.slots.open(decoded.batch.slot).view(torch.float32)
        room = numbers[: int(np.prod(self.shape))].view(self.shape)
        return room[: len(decoded.batch.pairs)], room[self.batch_size :][: len(decoded.negative_rows)]

    def __getitem__(self, batch: EncodedBatch) -> DecodedBatch:
        room = self.memory(batch.slot)
        pairs: list[RawPair] = []
        rows: list[int] = []
        left_out = list(batch.skipped)
        kept = replace(batch, pairs=pairs, skipped=left_out)
        for pair in batch.pairs:
            kind = BAD_IMAGE
            try:
                self._decode(pair.image, room[len(pairs)])
                kind = BAD_NEGATIVE
                if pair.negative is not None:
                    self._decode(pair.negative, room[self.batch_size + len(rows)])
                    rows.append(len(pairs))
                pairs.append(replace(pair, image=b"", negative=None))
            except BadImageError as error:
                left_out.append(skipped(pair.key, kind, str(error)))
            except MemoryError:
                return DecodedBatch(kept, rows, room[:0], room[:0], pair.key)
        if self.slots is not None and batch.slot is not None:
            return DecodedBatch(kept, rows)
        return DecodedBatch(kept, rows, room[: len(pairs)], room[self.batch_size :][: len(rows)])

    def _decode(self, content: bytes, row: Float[np.ndarray, "3 height width"]) -> None:
        image = self.reading(content)
        try:
            row[:] = self.transform(image).numpy()
        except Exception as error:  # of an image that a transform does not take, none may stop the run
            if is_memory_error(error):
                raise MemoryError(str(error)) from error
            raise BadImageError(str(error)) from error
