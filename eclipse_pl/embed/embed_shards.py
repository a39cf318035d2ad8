"""Raw pairs -> encoder -> a set of embedding shards (design.md, section 5). One shard a source tar.

A run that was killed and started again continues after the last finished shard and ends with the same bytes as an
uninterrupted run; started over a finished set it makes missing and damaged shards again, and those whose source has changed,
and leaves the rest alone.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from eclipse_pl.data.chunk import Chunk, shared_images, without_direction
from eclipse_pl.data.manifest import SCHEMA, Manifest, ShardEntry
from eclipse_pl.data.shards import ShardWriter
from eclipse_pl.embed.folder import finish_set, finished_shards, only_run, require_same_settings
from eclipse_pl.embed.progress import EmbedProgress
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.files import write_json
from eclipse_pl.raw.batches import ImageBatch, ImageBatches
from eclipse_pl.raw.image import AS_SHOWN, ImageReading
from eclipse_pl.raw.pairs import RawPair
from eclipse_pl.raw.reasons import NOT_FINITE, VANISHES, skipped
from eclipse_pl.raw.source_version import unchanged
from eclipse_pl.raw.sources import find_sources
from eclipse_pl.raw.splits import SplitDraw
from eclipse_pl.raw.tar_files import BrokenSourceError


def embed_shards(
    sources: list[str],
    encoder: Encoder,
    out: str | Path,
    made_by: str,
    chunk: int = 1024,
    val: float = 0.01,
    test: float = 0.01,
    batch_size: int = 64,
    workers: int = 1,
    reading: ImageReading = AS_SHOWN,
) -> Manifest:
    """Encode all pairs of the source tars and write the set of shards ``out``; return its manifest.

    ``made_by`` is the command that a reader of a damaged set is told to run. ``chunk`` is the number of pairs a record.
    ``val`` and ``test`` are the fractions of the pairs whose split the sources leave open. Pairs that share an image, a
    caption or a group lie in one split, for which the sources are read once more (see `raw.splits`). ``reading`` is how images
    are decoded, and is kept with the set.

    A pair without caption, with an undecodable image or with a non-finite embedding is left out and listed in the
    manifest. A source that cannot be read to its end gives no shard: the others are made, then ValueError names it.
    ValueError too for missing sources, other settings than those of the shards in ``out``, a second run into ``out``, and
    memory that runs out.
    """
    for option, value, least in (("chunk", chunk, 1), ("batch_size", batch_size, 1), ("workers", workers, 0)):
        if value < least:
            raise ValueError(f"{option} must be at least {least}, got {value}.")
    if not (0 <= val <= 1 and 0 <= test <= 1 and val + test <= 1):
        raise ValueError(f"val={val} and test={test} are fractions of the pairs: each in 0...1, together at most 1.")
    named, out = find_sources(sources), Path(out)
    with only_run(out):
        space = encoder.space(torch.zeros(encoder.dim), torch.ones(encoder.dim))
        settings = {"schema": SCHEMA, "space": space.identity, "chunk": chunk, "val": val, "test": test, **asdict(reading)}
        require_same_settings(out, settings, named)
        entries = finished_shards(out)
        draw = SplitDraw(named, out, val, test)
        problems = forget_changed(entries, named, draw)
        missing = {name: source for name, source in named.items() if name not in entries and source not in problems}
        batches = ImageBatches(missing, encoder.image_transform, reading, batch_size, workers)
        with EmbedProgress(missing, len(entries)) as progress, _memory_told(batches):
            draw.tell = progress.note
            for name, of_source in itertools.groupby(batches, key=lambda batch: batch.shard):
                try:
                    entries[name] = _write_shard(out / name, of_source, encoder, chunk, draw, progress)
                    write_json(out / f"{name}.json", entries[name].to_json())
                except BrokenSourceError as error:
                    problems[named[name]] = str(error)
                progress.source_done(name, entries.get(name))
        if problems:
            told = "; ".join(f"{source} ({problem})" for source, problem in problems.items())
            raise ValueError(
                f"{len(problems)} of {len(named)} sources could not be read to their end: {told}. Shards of "
                "the others are kept. Replace these sources or leave them out, and run the command again."
            )
        shards = [entries[name] for name in named]
        asked = {"val": val, "test": test} if any(shard.source and shard.source.drawn for shard in shards) else {}
        return finish_set(out, space, Manifest(space.identity, made_by, shards, asked, asdict(reading), list(sources)))


def forget_changed(entries: dict[str, ShardEntry], named: dict[str, str], draw: SplitDraw) -> dict[str, str]:
    """Take out of ``entries`` the shards that are to be made again; returns the sources that cannot be read, and why.

    Those are the shards whose source has changed, and those whose pairs lie in other splits now that there are other sources.
    """
    problems = {}
    for name in [name for name in named if name in entries]:
        entry = entries.pop(name)
        assert entry.source is not None
        try:
            if source := unchanged(named[name], entry.source):
                entries[name] = replace(entry, source=source)
            else:
                print(f"{name} is made again, because {named[name]} has changed since.")
        except BrokenSourceError as error:
            problems[named[name]] = str(error)
    if len(entries) < len(named) and any(entry.source and entry.source.drawn for entry in entries.values()):
        print(f"All {len(named)} sources are read to draw the splits again.")
        draw.draw()
        for name in [name for name, entry in entries.items() if entry.source and entry.source.drawn != draw.digest(name)]:
            print(f"{name} is made again, because with the other sources some of its pairs belong into other splits.")
            del entries[name]
    return problems


@contextlib.contextmanager
def _memory_told(batches: ImageBatches) -> Iterator[None]:
    """One sentence where there was too little memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch's own errors, of the GPU and of its workers, are RuntimeErrors
        if told := batches.fault(error):
            raise ValueError(told) from error
        raise


class _Row(NamedTuple):
    """One embedded pair, waiting for its record to be full."""

    pair: RawPair
    image: np.ndarray
    text: np.ndarray
    states: np.ndarray
    negative: np.ndarray | None


@dataclass(frozen=True, eq=False)
class _Embedded:
    """A batch on its way. ``tensors``: embeddings of images, captions and counterparts, token states and lengths, on the CPU.

    Those of a GPU are there when ``wait`` has returned.
    """

    batch: ImageBatch
    cut: Tensor
    tensors: list[Tensor]
    wait: Callable[[], object]


def _write_shard(
    path: Path,
    batches: Iterator[ImageBatch],
    encoder: Encoder,
    chunk: int,
    draw: SplitDraw,
    progress: EmbedProgress,
) -> ShardEntry:
    cut, others, left_out, source = 0, 0, [], None
    waiting: dict[str, list[_Row]] = {"train": [], "val": [], "test": []}
    with ShardWriter(path) as writer:
        for embedded in _one_behind(batches, encoder):
            rows, bad = _rows(embedded)
            cut += int(embedded.cut.sum()) - sum(bool(embedded.cut[row]) for row in bad)
            others += embedded.batch.others
            left_out += embedded.batch.skipped
            left_out += [skipped(embedded.batch.pairs[row].key, kind) for row, kind in bad.items()]
            for row in rows:
                split = draw.split_of(path.name, row.pair)
                waiting[split].append(row)
                if len(waiting[split]) == chunk:
                    writer.write(_chunk(waiting[split]), split)
                    waiting[split] = []
            progress.batch(len(rows), embedded.batch.position)
            source = embedded.batch.source
            if embedded.batch.problem:
                raise BrokenSourceError(embedded.batch.problem)
        for split, rows in waiting.items():
            if rows:
                writer.write(_chunk(rows), split)
        assert source is not None
        return writer.close(cut, left_out, others, replace(source, drawn=draw.digest(path.name)))


def _one_behind(batches: Iterator[ImageBatch], encoder: Encoder) -> Iterator[_Embedded]:
    """Embeddings of each batch, handed out when the next is under way: a GPU computes it while the last one is written."""
    started: _Embedded | None = None
    for batch in batches:
        last, started = started, _start(batch, encoder)
        if last is not None:
            yield last
    if started is not None:
        yield started


@torch.inference_mode()
def _start(batch: ImageBatch, encoder: Encoder) -> _Embedded:
    if not batch.pairs:
        nothing, states = torch.empty(0, encoder.dim), torch.empty(0, encoder.text_width, dtype=torch.float16)
        empty = [nothing, nothing, nothing, states, torch.empty(0, dtype=torch.int64)]
        return _Embedded(batch, torch.empty(0, dtype=torch.bool), empty, _no_wait)
    tokens = encoder.tokenize([pair.caption for pair in batch.pairs])
    text = encoder.encode_tokens(tokens)  # first: to count its tokens, this waits for the GPU
    image = encoder.encode_images(batch.pixels)
    negative = encoder.encode_images(batch.negative_pixels) if batch.negative_rows else image[:0]
    made = [image.float(), text.text_embed.float(), negative.float(), text.text_states.half(), text.lengths]
    return _Embedded(batch, tokens.cut, *_to_host(made))


def _to_host(tensors: list[Tensor]) -> tuple[list[Tensor], Callable[[], object]]:
    """Copies that stand in the GPU's queue right behind what makes the tensors, so that they do not wait for the next batch.

    They arrive in page-locked memory (torch allocates it for such copies) while this process does something else.
    """
    copies = [tensor.to("cpu", non_blocking=True) for tensor in tensors]
    if tensors[0].device.type != "cuda":
        return copies, _no_wait
    arrived = torch.cuda.Event()
    arrived.record(torch.cuda.current_stream(tensors[0].device))
    return copies, arrived.synchronize


def _no_wait() -> None:
    """What a CPU has made is there."""


def _rows(embedded: _Embedded) -> tuple[list[_Row], dict[int, str]]:
    """The pairs of a batch in float16, and the numbers of those left out with the reason."""
    embedded.wait()
    *exact, states, lengths = embedded.tensors
    image, text, negative = (tensor.half() for tensor in exact)  # what float16 cannot hold becomes infinite
    vanished_image, vanished_text, vanished_negative = (
        torch.from_numpy(without_direction(tensor.numpy())) for tensor in exact
    )
    negative_rows = torch.tensor(embedded.batch.negative_rows, dtype=torch.int64)
    finite, vanishes = image.isfinite().all(1) & text.isfinite().all(1), vanished_image | vanished_text
    finite[torch.arange(len(image)).repeat_interleave(lengths)[~states.isfinite().all(1)]] = False
    finite[negative_rows[~negative.isfinite().all(1)]] = False
    vanishes[negative_rows[vanished_negative]] = True
    bad = {row: VANISHES if finite[row] else NOT_FINITE for row in (~finite | vanishes).nonzero().flatten().tolist()}
    negatives = dict(zip(embedded.batch.negative_rows, negative.numpy(), strict=True))
    captions = [
        state.numpy().copy() for state in states.split(lengths.tolist())
    ]  # a view would keep the whole batch in memory
    parts = zip(embedded.batch.pairs, image.numpy(), text.numpy(), captions, strict=True)
    return [_Row(*part, negatives.get(row)) for row, part in enumerate(parts) if row not in bad], bad


def _chunk(rows: list[_Row]) -> Chunk:
    none, images = np.full_like(rows[0].image, np.nan), np.stack([row.image for row in rows])
    subsets = [row.pair.subset for row in rows]
    negatives = [none if row.negative is None else row.negative for row in rows]
    return Chunk(
        image_embed=images,
        text_embed=np.stack([row.text for row in rows]),
        text_states=np.concatenate([row.states for row in rows]),
        lengths=np.array([len(row.states) for row in rows], dtype=np.int16),
        captions=[row.pair.caption for row in rows],
        keys=[row.pair.key for row in rows],
        subsets=subsets if any(subsets) else None,
        negative_embed=np.stack(negatives) if any(row.negative is not None for row in rows) else None,
        group=np.array([row.pair.image_number for row in rows], dtype=np.int64),
        image_rows=shared_images(images),
    )
