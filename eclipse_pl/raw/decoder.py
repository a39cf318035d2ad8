"""Encoded images -> pixels for an image tower, in a worker process or in the main process.

Workers pass pixels in reused memory slots, not in ``/dev/shm``, of which containers have 64 MB.
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
from eclipse_pl.raw.image import BadImageError, ImageReader, is_memory_error
from eclipse_pl.raw.pairs import RawPair
from eclipse_pl.raw.reasons import BAD_IMAGE, BAD_NEGATIVE, skipped


@dataclass
class EncodedBatch:
    """Pairs of one part, in its order."""

    shard: str
    pairs: list[RawPair] = field(default_factory=list)
    skipped: list[SkippedPair] = field(default_factory=list)
    others: int = 0
    """Entries that are no samples, counted with the part's last batch."""
    position: int = 0
    """How much of the part was read so far."""
    bytes: int = 0
    """Size of the encoded images."""
    source: SourceEntry | None = None
    """State of the part, with its last batch."""
    problem: str | None = None
    """Reason why a broken part ends early."""
    slot: int | None = None
    """Memory for a worker's pixels, if a slot is free."""


@dataclass
class DecodedBatch:
    """``batch`` without its encoded images and without undecodable pairs. Pixels in the batch's slot are None."""

    batch: EncodedBatch
    image_rows: list[int]
    """Row of ``pixels`` of each pair."""
    negative_rows: list[int]
    pixels: Float[np.ndarray, "images 3 height width"] | None = None
    negative_pixels: Float[np.ndarray, "negatives 3 height width"] | None = None
    out_of_memory: str = ""
    """Key of the pair whose image exceeded the memory."""


class ImageDecoder(Dataset[DecodedBatch]):
    """Decodes batches of images. The 'index' of this dataset is an encoded batch."""

    def __init__(
        self, transform: Callable[[Image.Image], Tensor], reader: ImageReader, batch_size: int, workers: int, held: int
    ) -> None:
        self.transform, self.reader, self.batch_size = transform, reader, batch_size
        self.shape = (2 * batch_size, *transform(Image.new("RGB", (64, 64))).shape)
        self.slots = Slots(held, 2 * int(np.prod(self.shape))) if workers else None

    def memory(self, slot: int | None) -> Float[np.ndarray, "room 3 height width"]:
        """Return memory for the images of a batch, followed by those of its hard negatives."""
        if self.slots is None or slot is None:
            return np.empty(self.shape, dtype=np.float32)
        return self.slots.memory(slot).view(np.float32)[: int(np.prod(self.shape))].reshape(self.shape)

    def opened(self, decoded: DecodedBatch) -> tuple[Tensor, Tensor]:
        """Return the pixels of the images and of the hard negatives in the main process."""
        if decoded.pixels is not None and decoded.negative_pixels is not None:
            return torch.from_numpy(decoded.pixels), torch.from_numpy(decoded.negative_pixels)
        assert self.slots is not None and decoded.batch.slot is not None
        numbers = self.slots.open(decoded.batch.slot).view(torch.float32)
        room = numbers[: int(np.prod(self.shape))].view(self.shape)
        return room[: max(decoded.image_rows, default=-1) + 1], room[self.batch_size :][: len(decoded.negative_rows)]

    def __getitem__(self, batch: EncodedBatch) -> DecodedBatch:
        room = self.memory(batch.slot)
        pairs: list[RawPair] = []
        image_rows: list[int] = []
        rows: list[int] = []
        row_of: dict[int, int] = {}
        left_out = list(batch.skipped)
        kept = replace(batch, pairs=pairs, skipped=left_out)
        for pair in batch.pairs:
            kind = BAD_IMAGE
            try:
                if pair.image_number not in row_of:
                    self._decode(pair.image, room[len(row_of)])
                    row_of[pair.image_number] = len(row_of)
                kind = BAD_NEGATIVE
                if pair.negative is not None:
                    self._decode(pair.negative, room[self.batch_size + len(rows)])
                    rows.append(len(pairs))
                pairs.append(replace(pair, image=b"", negative=None))
                image_rows.append(row_of[pair.image_number])
            except BadImageError as error:
                left_out.append(skipped(pair.key, kind, str(error)))
            except MemoryError:
                return DecodedBatch(kept, image_rows, rows, room[:0], room[:0], pair.key)
        if self.slots is not None and batch.slot is not None:
            return DecodedBatch(kept, image_rows, rows)
        return DecodedBatch(kept, image_rows, rows, room[: len(row_of)], room[self.batch_size :][: len(rows)])

    def _decode(self, content: bytes, row: Float[np.ndarray, "3 height width"]) -> None:
        image = self.reader(content)
        try:
            row[:] = self.transform(image).numpy()
        except Exception as error:  # a bad image must not stop the run, whatever the transform raises
            if is_memory_error(error):
                raise MemoryError(str(error)) from error
            raise BadImageError(str(error)) from error
