"""Captions -> encoder -> a prior's samples -> a set of embedding shards, for training another prior on them.

The noise of a sample is a function of the seed, the caption and the number of the sample, and of nothing else. A killed run
resumes after the last finished shard, and the set gets the same bytes as from an uninterrupted run.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from eclipse_pl.data.chunk import Chunk, content_number, shared_images
from eclipse_pl.data.manifest import SCHEMA, SPLITS, Manifest, ShardEntry, SkippedPair
from eclipse_pl.data.shards import ShardWriter
from eclipse_pl.embed.folder import finish_set, finished_shards, forget, only_run, require_same_settings
from eclipse_pl.embed.teacher import Caption, SampledPair, Teacher
from eclipse_pl.files import write_json
from eclipse_pl.priors.prior import weights_sha256
from eclipse_pl.raw.image import is_memory_error
from eclipse_pl.raw.pairs import normal_caption
from eclipse_pl.raw.reasons import REPEATED, by_kind, skipped
from eclipse_pl.raw.splits import OPEN, PairNames, draw_splits


def first_of_each(captions: Sequence[Caption]) -> tuple[list[Caption], list[SkippedPair]]:
    """The captions without repetitions, which would have the same samples, and the repetitions."""
    seen: set[str] = set()
    kept, repeated = [], []
    for caption in captions:
        normal = normal_caption(caption.text)
        if normal in seen:
            repeated.append(skipped(caption.key, REPEATED))
        else:
            seen.add(normal)
            kept.append(caption)
    return kept, repeated


def teacher_shards(
    captions: Sequence[Caption],
    teacher: Teacher,
    out: str | Path,
    name: str,
    made_by: str,
    left_out: Sequence[SkippedPair] = (),
    chunk: int = 1024,
    shard_pairs: int = 10_000,
    val: float = 0.01,
    test: float = 0.01,
) -> Manifest:
    """Sample image embeddings of all captions, write the set of shards, and return its manifest.

    A caption that occurs again is skipped, and so is a sample that is not finite. The manifest lists both.

    Args:
        captions: Captions with keys.
        teacher: The prior and how it samples.
        out: Folder of the set.
        name: Folder or hub id of the prior, for the manifest.
        made_by: Command that repairs the set, for the manifest.
        left_out: Rows of the file that are no captions.
        chunk: Pairs per record.
        shard_pairs: Pairs per shard, at most, but at least those of one caption.
        val: Fraction of the captions for validation. All samples of a caption get the same split.
        test: Fraction of the captions for testing.

    Raises:
        ValueError: There is no caption, the shards in ``out`` have other settings, another run writes into ``out``, or memory
            runs out.
    """
    for option, value in (("chunk", chunk), ("shard_pairs", shard_pairs)):
        if value < 1:
            raise ValueError(f"{option} must be at least 1, got {value}.")
    if not (0 <= val <= 1 and 0 <= test <= 1 and val + test <= 1):
        raise ValueError(f"val={val} and test={test} are fractions of the captions: each in 0...1, together at most 1.")
    out = Path(out).expanduser()
    kept, repeated = first_of_each(captions)
    left_out = [*left_out, *repeated]
    if not kept:
        raise ValueError(f"There is no caption to sample ({by_kind(left_out) or 'the file is empty'}).")
    a_shard = max(1, shard_pairs // teacher.samples)
    named = {f"{first // a_shard:04d}.tar": kept[first : first + a_shard] for first in range(0, len(kept), a_shard)}
    splits = drawn_splits(kept, val, test)
    made: dict[str, str | bool] = {"teacher_weights": weights_sha256(teacher.prior), "sampler": teacher.sampler}
    space = teacher.prior.space
    settings = {
        "schema": SCHEMA,
        "space": space.identity,
        **made,
        "prior_options": teacher.prior.options,
        **teacher.encoder.settings,
        "captions": digest_of(kept),
        "samples": teacher.samples,
        "seed": teacher.seed,
        "chunk": chunk,
        "shard_pairs": shard_pairs,
        "val": val,
        "test": test,
    }
    with only_run(out):
        require_same_settings(out, settings, named)
        entries = finished_shards(out)
        for shard, of_shard in named.items():
            if shard not in entries:
                started = time.perf_counter()
                first = shard == "0000.tar"
                entries[shard] = _write_shard(out / shard, of_shard, splits, teacher, chunk, left_out if first else ())
                write_json(out / f"{shard}.json", entries[shard].to_json())
                pairs, rate = entries[shard].pairs, entries[shard].pairs / (time.perf_counter() - started)
                done = sum(one in entries for one in named)
                print(f"{shard}: {pairs} pairs; {done} of {len(named)} shards, {rate:,.0f} pairs/s", flush=True)
        shards = [entries[shard] for shard in named]
        manifest = Manifest(space.identity, made_by, shards, {"val": val, "test": test}, {"teacher": name, **made})
        return finish_set(out, space, manifest)


def drawn_splits(captions: Sequence[Caption], val: float, test: float) -> dict[str, str]:
    """{caption: split}. A draw depends on the caption alone, and on no order (see `raw.splits.draw_splits`)."""
    numbers = np.array([content_number(normal_caption(caption.text).encode()) for caption in captions], dtype=np.int64)
    drawn = draw_splits(PairNames(numbers, numbers, numbers, np.full_like(numbers, OPEN)), val, test)
    return {caption.text: SPLITS[number] for caption, number in zip(captions, drawn.tolist(), strict=True)}


def digest_of(captions: Sequence[Caption]) -> str:
    return hashlib.sha256(json.dumps([[*caption] for caption in captions]).encode()).hexdigest()


def _write_shard(
    path: Path,
    captions: Sequence[Caption],
    splits: dict[str, str],
    teacher: Teacher,
    chunk: int,
    left_out: Sequence[SkippedPair],
) -> ShardEntry:
    cut, left_out = 0, list(left_out)
    waiting: dict[str, list[SampledPair]] = {split: [] for split in SPLITS}
    with ShardWriter(path, before=partial(forget, path.parent)) as writer:
        try:
            for batch in teacher.batches(captions):
                cut += batch.cut
                left_out += batch.skipped
                for pair in batch.pairs:
                    waiting[splits[pair.caption]].append(pair)
                for split, some in waiting.items():
                    while len(some) >= chunk:
                        writer.write(_chunk_of(some[:chunk]), split)
                        del some[:chunk]
        except (MemoryError, RuntimeError) as error:  # torch raises RuntimeErrors for a GPU's memory
            if is_memory_error(error):
                reason = str(error).strip().split("\n")[0][:200]
                raise ValueError(
                    f"Memory ran out while {path.name} was sampled{f' ({reason})' * bool(reason)}. Lower --batch-size, and "
                    "run the command again: the finished shards are kept."
                ) from error
            raise
        for split, some in waiting.items():
            if some:
                writer.write(_chunk_of(some), split)
        return writer.close(cut, left_out)


def _chunk_of(pairs: Sequence[SampledPair]) -> Chunk:
    images = np.stack([pair.image for pair in pairs])
    return Chunk(
        image_embed=images,
        text_embed=np.stack([pair.text for pair in pairs]),
        text_states=np.concatenate([pair.states for pair in pairs]),
        lengths=np.array([len(pair.states) for pair in pairs], dtype=np.int16),
        captions=[pair.caption for pair in pairs],
        keys=[pair.key for pair in pairs],
        image_rows=shared_images(images),
    )
