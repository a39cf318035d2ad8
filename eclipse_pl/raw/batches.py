"""Batches of raw pairs: the main process reads the sources in order, worker processes decode the images."""

from __future__ import annotations

import re
import signal
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from eclipse_pl.data.manifest import SkippedPair, SourceEntry
from eclipse_pl.raw.decoder import DecodedBatch, EncodedBatch, ImageDecoder
from eclipse_pl.raw.image import ImageReader, is_memory_error
from eclipse_pl.raw.reasons import shown
from eclipse_pl.raw.source import BrokenSourceError, Part

MOST_BYTES = 1 << 28
"""Most bytes of the encoded images of a batch."""
PREFETCH = 2
"""Batches that a worker decodes ahead of use."""
HELD = 3
"""Batches that the caller may use at a time. Pixels of further batches pass through a pipe."""
_LOWER = "Lower --workers or --batch-size, and run the command again: the finished shards are kept."


class KilledWorkerError(ValueError):
    """A process that decodes images was ended from outside. A launcher may start the command again."""

    exit_code = 128 + signal.SIGKILL
    """The exit code of the command, as a shell reports a killed process."""


class ImageBatch(NamedTuple):
    """Decoded pairs of one part. The pairs of ``content`` have lost their encoded images."""

    content: EncodedBatch
    image_rows: list[int]
    """Row of ``pixels`` of each pair. Captions of one image share a row."""
    pixels: Float[Tensor, "images 3 height width"]
    negative_pixels: Float[Tensor, "negatives 3 height width"]
    negative_rows: list[int]
    """Rows of the pairs that ``negative_pixels`` belong to."""


class ImageBatches:
    """All pairs of all parts in order, at most ``batch_size`` at a time, decoded by ``workers`` processes (0: this one).

    A batch never spans two parts, so that a shard does not depend on earlier shards. The main process reads the sources and
    sends their bytes to the workers: it can read any stream, and it keeps the order of the pairs.
    """

    def __init__(
        self,
        named: dict[str, Part],
        transform: Callable[[Image.Image], Tensor],
        reader: ImageReader,
        batch_size: int,
        workers: int,
    ) -> None:
        self._named, self._batch_size, self._workers = named, batch_size, workers
        self._decoder = ImageDecoder(transform, reader, batch_size, workers, PREFETCH * workers + HELD)
        self._in_work: deque[str] = deque()

    def __iter__(self) -> Iterator[ImageBatch]:
        loader: DataLoader[DecodedBatch] = DataLoader(
            self._decoder,
            sampler=self._encoded(),
            batch_size=None,
            num_workers=self._workers,
            prefetch_factor=PREFETCH if self._workers else None,
            collate_fn=_unchanged,
        )
        for decoded in loader:
            if decoded.out_of_memory:
                raise MemoryError(f"at the image of {shown(decoded.out_of_memory)}")
            pixels, negative_pixels = self._decoder.opened(decoded)
            yield ImageBatch(decoded.batch, decoded.image_rows, pixels, negative_pixels, decoded.negative_rows)
            del decoded  # frees its slot
            self._in_work.popleft()

    def memory_problem(self, error: BaseException) -> ValueError | None:
        """Describe an error of too little memory, or of a killed worker, in one sentence; return None for other errors."""
        shards = " and ".join(dict.fromkeys(self._in_work)) or "the sources"
        if is_memory_error(error):
            reason = str(error).strip().split("\n")[0][:200]
            return ValueError(f"Memory ran out while {shards} was embedded{f' ({reason})' * bool(reason)}. {_LOWER}")
        if worker := re.match(r"DataLoader worker \(pid.*?\) (?:is killed by signal: (\w+)|exited)", str(error)):
            how = f"killed ({worker[1]})" if worker[1] else "ended"
            return KilledWorkerError(
                f"A process that decodes images was {how} from outside while {shards} was embedded. Systems do so when "
                f"memory runs out. {_LOWER}"
            )
        return None

    def _encoded(self) -> Iterator[EncodedBatch]:
        for shard, part in self._named.items():
            for batch in encoded_batches(shard, part, self._batch_size):
                batch.slot = None if self._decoder.slots is None else self._decoder.slots.take()
                self._in_work.append(shard)
                yield batch


def encoded_batches(shard: str, part: Part, batch_size: int) -> Iterator[EncodedBatch]:
    """Yield the batches of a part, of at most ``batch_size`` pairs and MOST_BYTES.

    All captions of an image are in one batch, unless they are more than ``batch_size``, so that it is encoded once.
    """
    version = part.version()  # before reading, so that a later change shows
    reading = part.read()
    batch = EncodedBatch(shard)
    try:
        for found in reading:
            if isinstance(found, SkippedPair):
                batch.skipped.append(found)
                continue
            if batch.pairs and len(batch.pairs) + len(found) > batch_size:
                batch.position = reading.position
                yield batch
                batch = EncodedBatch(shard)
            for pair in found:
                batch.pairs.append(pair)
                batch.bytes += len(pair.image) * (pair is found[0]) + len(pair.negative or b"")
                if len(batch.pairs) == batch_size or batch.bytes > MOST_BYTES:
                    batch.position = reading.position
                    yield batch
                    batch = EncodedBatch(shard)
    except BrokenSourceError as error:
        batch.problem = str(error)
    batch.position, batch.others = reading.position, reading.others
    batch.source = SourceEntry(version, reading.sha256)
    yield batch


def _unchanged(batch: Any) -> Any:
    return batch
