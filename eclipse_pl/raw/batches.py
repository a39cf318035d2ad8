"""Batches of raw pairs: read from the tars in order, decoded by worker processes."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from eclipse_pl.data.manifest import SkippedPair, SourceEntry
from eclipse_pl.raw.pairs import RawPair, raw_pairs
from eclipse_pl.raw.reasons import BAD_IMAGE, BAD_NEGATIVE, skipped
from eclipse_pl.raw.source_version import version_of
from eclipse_pl.raw.tar_files import BrokenSourceError
from eclipse_pl.raw.tar_samples import TarSamples

MOST_BYTES = 1 << 28
"""Of the encoded images of a batch."""


@dataclass(frozen=True, eq=False)
class PictureBatch:
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


def picture_batches(
    named: dict[str, str], transform: Callable[[Image.Image], Tensor], batch_size: int, workers: int
) -> Iterator[PictureBatch]:
    """All pairs of all sources in order, at most ``batch_size`` at a time, decoded by ``workers`` processes (0: by this one).

    A batch never spans two sources, so that what a shard holds does not depend on the shards made before it. The tars are
    read here and their bytes sent to the workers: any stream can be read, and the order is that of the tars.
    """
    batches = (batch for shard, source in named.items() for batch in _encoded_batches(shard, source, batch_size))
    loader: DataLoader[PictureBatch] = DataLoader(
        _PictureDecoder(transform), sampler=batches, batch_size=None, num_workers=workers, collate_fn=_as_it_is
    )
    return iter(loader)


@dataclass
class _EncodedBatch:
    shard: str
    pairs: list[RawPair] = field(default_factory=list)
    skipped: list[SkippedPair] = field(default_factory=list)
    others: int = 0
    position: int = 0
    bytes: int = 0
    source: SourceEntry | None = None
    problem: str | None = None


class _PictureDecoder(Dataset[PictureBatch]):
    """Asked for a batch of encoded pictures, gives the decoded ones. The 'index' is the batch itself."""

    def __init__(self, transform: Callable[[Image.Image], Tensor]) -> None:
        self.transform = transform

    def __getitem__(self, batch: _EncodedBatch) -> PictureBatch:
        pairs: list[RawPair] = []
        pixels: list[Tensor] = []
        negatives: dict[int, Tensor] = {}
        left_out = list(batch.skipped)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata concern nobody, a million pictures long
            for pair in batch.pairs:
                picture = self.decode(pair.picture)
                negative = None if pair.negative is None else self.decode(pair.negative)
                if picture is None or (pair.negative is not None and negative is None):
                    left_out.append(skipped(pair.key, BAD_IMAGE if picture is None else BAD_NEGATIVE))
                    continue
                if negative is not None:
                    negatives[len(pairs)] = negative
                pixels.append(picture)
                pairs.append(replace(pair, picture=b"", negative=None))
        # In a worker `default_collate` stacks into shared memory, so that the batch is not copied again on its way out.
        stacked = default_collate(pixels) if pixels else torch.empty(0, 3, 1, 1)
        return PictureBatch(
            shard=batch.shard,
            pairs=pairs,
            pixels=stacked,
            negative_pixels=default_collate(list(negatives.values())) if negatives else torch.empty(0, *stacked.shape[1:]),
            negative_rows=list(negatives),
            skipped=left_out,
            others=batch.others,
            position=batch.position,
            source=batch.source,
            problem=batch.problem,
        )

    def decode(self, content: bytes) -> Tensor | None:
        try:
            with Image.open(io.BytesIO(content)) as picture:
                return self.transform(picture)
        except Exception:  # Pillow and its plug-ins raise a dozen kinds for a broken file, and none may stop the run
            return None


def _as_it_is(batch: Any) -> Any:
    return batch


def _encoded_batches(shard: str, source: str, batch_size: int) -> Iterator[_EncodedBatch]:
    """A batch is full with ``batch_size`` pairs, or when their files are too large to be held."""
    version = version_of(source)  # of before it is read: what changes meanwhile is then seen
    samples = TarSamples(source)
    batch = _EncodedBatch(shard)
    try:
        for sample in samples:
            found = sample if isinstance(sample, SkippedPair) else raw_pairs(sample)
            for pair in [] if isinstance(found, SkippedPair) else found:
                batch.pairs.append(pair)
                batch.bytes += len(pair.picture) + len(pair.negative or b"")
                if len(batch.pairs) == batch_size or batch.bytes > MOST_BYTES:
                    batch.position = samples.position
                    yield batch
                    batch = _EncodedBatch(shard)
            if isinstance(found, SkippedPair):
                batch.skipped.append(found)
    except BrokenSourceError as error:
        batch.problem = str(error)
    batch.position, batch.others = samples.position, samples.others
    batch.source = SourceEntry(version, samples.sha256)
    yield batch
