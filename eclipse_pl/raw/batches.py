"""Batches of raw pairs: the main process reads the tars in order, worker processes decode the images."""

from __future__ import annotations

import re
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
from eclipse_pl.raw.pairs import raw_pairs
from eclipse_pl.raw.reasons import shown
from eclipse_pl.raw.source_version import version_of
from eclipse_pl.raw.tar_files import BrokenSourceError
from eclipse_pl.raw.tar_samples import TarSamples

MOST_BYTES = 1 << 28
"""Most bytes of the encoded images of a batch."""
PREFETCH = 2
"""Batches that a worker decodes ahead of use."""
HELD = 3
"""Batches that the caller may use at a time. Pixels of further batches pass through a pipe."""
_LOWER = "Lower --workers or --batch-size, and run the command again: the finished shards are kept."


class ImageBatch(NamedTuple):
    """Decoded pairs of one source. The pairs of ``content`` have lost their encoded images."""

    content: EncodedBatch
    pixels: Float[Tensor, "pairs 3 height width"]
    negative_pixels: Float[Tensor, "negatives 3 height width"]
    negative_rows: list[int]
    """Rows of the pairs that ``negative_pixels`` belong to."""


class ImageBatches:
    """All pairs of all sources in order, at most ``batch_size`` at a time, decoded by ``workers`` processes (0: this one).

    A batch never spans two sources, so that a shard does not depend on earlier shards. The main process reads the tars and
    sends their bytes to the workers: it can read any stream, and it keeps the order of the tars.
    """

    def __init__(
        self,
        named: dict[str, str],
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
            yield ImageBatch(decoded.batch, *self._decoder.opened(decoded), decoded.negative_rows)
            del decoded  # frees its slot
            self._in_work.popleft()

    def memory_problem(self, error: BaseException) -> str | None:
        """Describe an error of too little memory in one sentence; return None for other errors."""
        shards = " and ".join(dict.fromkeys(self._in_work)) or "the sources"
        if is_memory_error(error):
            reason = str(error).strip().split("\n")[0][:200]
            return f"Memory ran out while {shards} was embedded{f' ({reason})' * bool(reason)}. {_LOWER}"
        if worker := re.match(r"DataLoader worker \(pid.*?\) (?:is killed by signal: (\w+)|exited)", str(error)):
            how = f"killed ({worker[1]})" if worker[1] else "ended"
            return (
                f"A process that decodes images was {how} from outside while {shards} was embedded. Systems do so when "
                f"memory runs out. {_LOWER}"
            )
        return None

    def _encoded(self) -> Iterator[EncodedBatch]:
        for shard, source in self._named.items():
            for batch in encoded_batches(shard, source, self._batch_size):
                batch.slot = None if self._decoder.slots is None else self._decoder.slots.take()
                self._in_work.append(shard)
                yield batch


def encoded_batches(shard: str, source: str, batch_size: int) -> Iterator[EncodedBatch]:
    """Yield the batches of a source, of at most ``batch_size`` pairs and MOST_BYTES."""
    version = version_of(source)  # before reading, so that a later change shows
    samples = TarSamples(source)
    batch = EncodedBatch(shard)
    try:
        for sample in samples:
            found = sample if isinstance(sample, SkippedPair) else raw_pairs(sample)
            for pair in [] if isinstance(found, SkippedPair) else found:
                batch.pairs.append(pair)
                batch.bytes += len(pair.image) + len(pair.negative or b"")
                if len(batch.pairs) == batch_size or batch.bytes > MOST_BYTES:
                    batch.position = samples.position
                    yield batch
                    batch = EncodedBatch(shard)
            if isinstance(found, SkippedPair):
                batch.skipped.append(found)
    except BrokenSourceError as error:
        batch.problem = str(error)
    batch.position, batch.others = samples.position, samples.others
    batch.source = SourceEntry(version, samples.sha256)
    yield batch


def _unchanged(batch: Any) -> Any:
    return batch
