"""Batches of raw pairs: read from the tars in order, decoded by worker processes."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from eclipse_pl.data.manifest import SkippedPair, SourceEntry
from eclipse_pl.raw.decoder import DecodedBatch, EncodedBatch, ImageDecoder
from eclipse_pl.raw.image import ImageReading, is_memory_error
from eclipse_pl.raw.pairs import RawPair, raw_pairs
from eclipse_pl.raw.reasons import shown
from eclipse_pl.raw.source_version import version_of
from eclipse_pl.raw.tar_files import BrokenSourceError
from eclipse_pl.raw.tar_samples import TarSamples

MOST_BYTES = 1 << 28
"""Of the encoded images of a batch."""
PREFETCH = 2
"""Batches that a worker decodes ahead of use."""
HELD = 3
"""Batches that may be in use meanwhile; with more, further ones are sent through a pipe."""
_LOWER = "Lower --workers or --batch-size, and run the command again: the finished shards are kept."


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Decoded pairs of one source, in its order. ``pairs`` have lost their bytes; ``position`` is how far the tar was read."""

    shard: str
    pairs: list[RawPair]
    pixels: Float[Tensor, "pairs 3 height width"]
    negative_pixels: Float[Tensor, "negatives 3 height width"]
    negative_rows: list[int]
    """The pairs that ``negative_pixels`` belong to."""
    skipped: list[SkippedPair]
    others: int
    """Files of the tar that no pair can be expected of; counted with the source's last batch."""
    position: int
    source: SourceEntry | None
    """What the source was, with its last batch."""
    problem: str | None
    """Why the source ends here, if it is broken."""


class ImageBatches:
    """All pairs of all sources in order, at most ``batch_size`` at a time, decoded by ``workers`` processes (0: by this one).

    A batch never spans two sources, so that what a shard holds does not depend on the shards made before it. The tars are
    read here and their bytes sent to the workers: any stream can be read, and the order is that of the tars.
    """

    def __init__(
        self,
        named: dict[str, str],
        transform: Callable[[Image.Image], Tensor],
        reading: ImageReading,
        batch_size: int,
        workers: int,
    ) -> None:
        self._named = named
        self._batch_size = batch_size
        self._workers = workers
        self._decoder = ImageDecoder(transform, reading, batch_size, workers, PREFETCH * workers + HELD)
        self._under_way: deque[str] = deque()

    def __iter__(self) -> Iterator[ImageBatch]:
        loader: DataLoader[DecodedBatch] = DataLoader(
            self._decoder,
            sampler=self._encoded(),
            batch_size=None,
            num_workers=self._workers,
            prefetch_factor=PREFETCH if self._workers else None,
            collate_fn=_as_it_is,
        )
        for decoded in loader:
            if decoded.out_of_memory:
                raise MemoryError(f"at the image of {shown(decoded.out_of_memory)}")
            pixels, negative_pixels = self._decoder.opened(decoded)
            batch = decoded.batch
            yield ImageBatch(
                batch.shard,
                batch.pairs,
                pixels,
                negative_pixels,
                decoded.negative_rows,
                batch.skipped,
                batch.others,
                batch.position,
                batch.source,
                batch.problem,
            )
            del decoded, batch, pixels, negative_pixels  # or their slot would stay occupied
            self._under_way.popleft()

    def fault(self, error: BaseException) -> str | None:
        """One sentence for an error that tells of too little memory, here or in a worker; None for any other."""
        shards = " and ".join(dict.fromkeys(self._under_way)) or "the sources"
        if is_memory_error(error):
            told = str(error).strip().split("\n")[0][:200]
            return f"Memory ran out while {shards} was embedded{f' ({told})' * bool(told)}. {_LOWER}"
        if worker := re.match(r"DataLoader worker \(pid.*?\) (?:is killed by signal: (\w+)|exited)", str(error)):
            how = f"killed ({worker[1]})" if worker[1] else "ended"
            return (
                f"A process that decodes images was {how} from outside while {shards} was embedded, as the system does when "
                f"memory runs out. {_LOWER}"
            )
        return None

    def _encoded(self) -> Iterator[EncodedBatch]:
        for shard, source in self._named.items():
            for batch in encoded_batches(shard, source, self._batch_size):
                batch.slot = None if self._decoder.slots is None else self._decoder.slots.take()
                self._under_way.append(shard)
                yield batch


def encoded_batches(shard: str, source: str, batch_size: int) -> Iterator[EncodedBatch]:
    """A batch is full with ``batch_size`` pairs, or when their files are too large to be held."""
    version = version_of(source)  # of before it is read: what changes meanwhile is then seen
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


def _as_it_is(batch: Any) -> Any:
    return batch
