"""Batches of images and captions -> embeddings, on a GPU one batch ahead of the writer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from eclipse_pl.data.chunk import Chunk, shared_images, without_direction
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.raw.batches import ImageBatch
from eclipse_pl.raw.pairs import RawPair
from eclipse_pl.raw.reasons import NOT_FINITE, VANISHES


class EmbeddedPair(NamedTuple):
    """One pair with its embeddings in float16. ``tokens`` holds its token states (T, W), or its token ids (T,)."""

    raw: RawPair
    image: np.ndarray
    text: np.ndarray
    tokens: np.ndarray
    negative: np.ndarray | None
    negative_text: np.ndarray | None


@dataclass(frozen=True, eq=False)
class EmbeddedBatch:
    """A batch that a GPU may still be computing. ``wait`` returns when its ``tensors`` are ready.

    They are the embeddings of images, captions, negative images and negative captions, the token states or ids, and the
    lengths, on the CPU.
    """

    batch: ImageBatch
    cut: Tensor
    tensors: list[Tensor]
    wait: Callable[[], object]

    def pairs(self) -> tuple[list[EmbeddedPair], dict[int, str]]:
        """Return the usable pairs, and {row: reason} for the others."""
        self.wait()
        *exact, tokens, lengths = self.tensors
        image, text, *negatives = (tensor.half() for tensor in exact)  # numbers beyond float16 become infinite
        vanished_image, vanished_text, *vanished_negatives = (
            torch.from_numpy(without_direction(tensor.numpy())) for tensor in exact
        )
        finite, vanishes = image.isfinite().all(1) & text.isfinite().all(1), vanished_image | vanished_text
        if tokens.is_floating_point():
            finite[torch.arange(len(image)).repeat_interleave(lengths)[~tokens.isfinite().all(1)]] = False
        rows_of = (self.batch.negative_rows, negative_caption_rows(self.batch))
        for rows, negative, vanished in zip(rows_of, negatives, vanished_negatives, strict=True):
            places = torch.tensor(rows, dtype=torch.int64)
            finite[places[~negative.isfinite().all(1)]] = False
            vanishes[places[vanished]] = True
        bad = {row: VANISHES if finite[row] else NOT_FINITE for row in (~finite | vanishes).nonzero().flatten().tolist()}
        of_image, of_text = (
            dict(zip(rows, negative.numpy(), strict=True)) for rows, negative in zip(rows_of, negatives, strict=True)
        )
        copies = [part.numpy().copy() for part in tokens.split(lengths.tolist())]  # a view would keep the batch in memory
        parts = zip(self.batch.content.pairs, image.numpy(), text.numpy(), copies, strict=True)
        pairs = [EmbeddedPair(*part, of_image.get(row), of_text.get(row)) for row, part in enumerate(parts) if row not in bad]
        return pairs, bad


def embedded_batches(batches: Iterator[ImageBatch], encoder: Encoder, with_states: bool = True) -> Iterator[EmbeddedBatch]:
    """Yield each batch after the next one has started, so that a GPU computes while the caller writes.

    With ``with_states`` pairs have token states, otherwise token ids.
    """
    started: EmbeddedBatch | None = None
    for batch in batches:
        last, started = started, _start(batch, encoder, with_states)
        if last is not None:
            yield last
    if started is not None:
        yield started


def chunk_of(pairs: list[EmbeddedPair]) -> Chunk:
    """Join pairs in one record."""
    tokens = np.concatenate([pair.tokens for pair in pairs])
    images = np.stack([pair.image for pair in pairs])
    subsets = [pair.raw.subset for pair in pairs]
    return Chunk(
        image_embed=images,
        text_embed=np.stack([pair.text for pair in pairs]),
        text_states=tokens if tokens.ndim == 2 else None,
        token_ids=tokens if tokens.ndim == 1 else None,
        lengths=np.array([len(pair.tokens) for pair in pairs], dtype=np.int16),
        captions=[pair.raw.caption for pair in pairs],
        keys=[pair.raw.key for pair in pairs],
        subsets=subsets if any(subsets) else None,
        negative_embed=_rows_or_nan([pair.negative for pair in pairs]),
        negative_text_embed=_rows_or_nan([pair.negative_text for pair in pairs]),
        group=np.array([pair.raw.image_number for pair in pairs], dtype=np.int64),
        image_rows=shared_images(images),
    )


def negative_caption_rows(batch: ImageBatch) -> list[int]:
    """Rows of the pairs that have a negative caption."""
    return [row for row, pair in enumerate(batch.content.pairs) if pair.negative_caption]


def _rows_or_nan(rows: list[np.ndarray | None]) -> np.ndarray | None:
    """The rows with NaN for None; None if there is no row at all."""
    known = next((row for row in rows if row is not None), None)
    return None if known is None else np.stack([np.full_like(known, np.nan) if row is None else row for row in rows])


@torch.inference_mode()
def _start(batch: ImageBatch, encoder: Encoder, with_states: bool) -> EmbeddedBatch:
    if not batch.content.pairs:
        nothing, states = torch.empty(0, encoder.dim), torch.empty(0, encoder.text_width, dtype=torch.float16)
        empty = [*[nothing] * 4, states, torch.empty(0, dtype=torch.int64)]  # no pair, so no state and no id
        return EmbeddedBatch(batch, torch.empty(0, dtype=torch.bool), empty, _no_wait)
    tokens = encoder.tokenize([pair.caption for pair in batch.content.pairs])
    text = encoder.encode_tokens(tokens)  # before the images, because it waits for the GPU to count its tokens
    others = [other for pair in batch.content.pairs if (other := pair.negative_caption)]
    negative_text = encoder.encode_tokens(encoder.tokenize(others)).text_embed if others else text.text_embed[:0]
    image = encoder.encode_images(batch.pixels)
    negative = encoder.encode_images(batch.negative_pixels) if batch.negative_rows else image[:0]
    image = image[batch.image_rows]
    stored = text.text_states.half() if with_states else tokens.packed_ids()
    embeds = [tensor.float() for tensor in (image, text.text_embed, negative, negative_text)]
    return EmbeddedBatch(batch, tokens.cut, *_to_host([*embeds, stored, text.lengths]))


def _to_host(tensors: list[Tensor]) -> tuple[list[Tensor], Callable[[], object]]:
    """Queue copies to the CPU before the GPU starts the next batch. Return them with a function that waits for them."""
    copies = [tensor.to("cpu", non_blocking=True) for tensor in tensors]  # torch allocates page-locked memory for them
    if tensors[0].device.type != "cuda":
        return copies, _no_wait
    arrived = torch.cuda.Event()
    arrived.record(torch.cuda.current_stream(tensors[0].device))
    return copies, arrived.synchronize


def _no_wait() -> None:
    """Tensors of a CPU are ready."""
