"""Tiny synthetic sets of shards for the tests of every part."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from eclipse_pl.data.chunk import MEMBERS, Chunk
from eclipse_pl.data.manifest import SPACE_NAME, Manifest, RecordEntry, ShardEntry
from eclipse_pl.data.shards import ShardWriter
from eclipse_pl.data.states import States
from eclipse_pl.embedding import ClipSpace

MADE_BY = "python -m data_prep embed --source raw/*.tar --encoder tiny --out shards"


def make_space(dim: int = 8, width: int = 6, name: str = "tiny", seed: int = 0, normalised: bool = False) -> ClipSpace:
    """A space with every optional part, of ``context_length`` 77."""
    generator = torch.Generator().manual_seed(seed)
    return ClipSpace(
        name=name,
        dim=dim,
        text_width=width,
        context_length=77,
        encoder=f"{name}-{dim}",
        normalised=normalised,
        image_mean=torch.zeros(dim),
        image_std=torch.ones(dim),
        empty_states=torch.randn(2, width, generator=generator),
        empty_embed=torch.randn(dim, generator=generator),
        zero_image=torch.randn(dim, generator=generator),
    )


def make_chunk(
    rng: np.random.Generator,
    pairs: int,
    dim: int,
    width: int,
    start: int = 0,
    tokens: tuple[int, int] = (3, 20),
    negatives: bool = True,
    negative_texts: bool = False,
    linear: np.ndarray | None = None,
) -> Chunk:
    """Random pairs; the image embedding is a fixed linear map of the text embedding, plus an offset and noise."""
    linear = np.random.default_rng(1234).normal(size=(dim, dim)) / dim**0.5 if linear is None else linear
    lengths = rng.integers(tokens[0], tokens[1] + 1, pairs)
    text_embed = rng.normal(size=(pairs, dim))
    image_embed = text_embed @ linear + 0.5 + 0.1 * rng.normal(size=(pairs, dim))
    negative_embed = image_embed[:, ::-1].copy()
    negative_embed[::3] = np.nan
    # The last token carries the caption, as the end token of a CLIP does; the rest is noise.
    text_states = rng.normal(size=(int(lengths.sum()), width))
    ends = np.cumsum(lengths)[lengths > 0] - 1
    text_states[ends, : min(dim, width)] = text_embed[lengths > 0, : min(dim, width)]
    numbers = range(start, start + pairs)
    return Chunk(
        image_embed=image_embed,
        text_embed=text_embed,
        text_states=text_states,
        lengths=lengths,
        captions=[f"caption number {number}" for number in numbers],
        keys=[f"{number:09d}" for number in numbers],
        subsets=["seen" if number % 2 else "unseen" for number in numbers],
        negative_embed=negative_embed if negatives else None,
        negative_text_embed=np.where(np.arange(pairs)[:, None] % 3 == 1, np.nan, -text_embed) if negative_texts else None,
    )


def make_shard_set(
    folder: Path,
    pairs: int = 96,
    dim: int = 8,
    width: int = 6,
    splits: Mapping[str, int] | None = None,
    chunk: int = 16,
    records_per_shard: int = 3,
    tokens: tuple[int, int] = (3, 20),
    seed: int = 0,
    space: ClipSpace | None = None,
    negatives: bool = True,
    negative_texts: Collection[str] = (),
    states: States = "float16",
) -> Path:
    """Write a set of shards and return its folder.

    ``pairs`` of training unless ``splits`` says how many pairs each split has; ``tokens=(0, 0)`` makes a set without token
    states. ``negative_texts`` are the splits whose captions have negative ones, the first of each record for one. Keys and
    captions number the pairs of the set from 0 in the order written: train, val, test.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    plan = [
        (split, min(chunk, count - start))
        for split, count in (splits or {"train": pairs}).items()
        for start in range(0, count, chunk)
    ]
    space = space or make_space(dim, width)
    entries: list[ShardEntry] = []
    images, written = [], 0
    for number, first in enumerate(range(0, len(plan), records_per_shard)):
        with ShardWriter(folder / f"{number:04d}.tar", states) as writer:
            for split, count in plan[first : first + records_per_shard]:
                made = make_chunk(rng, count, space.dim, space.text_width, written, tokens, negatives, split in negative_texts)
                writer.write(made, split)
                written += count
                if split == "train":
                    images.append(made.image_embed)
            entries.append(writer.close())
    if images:
        train = torch.from_numpy(np.concatenate(images)).float()
        object.__setattr__(space, "image_mean", train.mean(0))
        object.__setattr__(space, "image_std", train.std(0, unbiased=False))
    space.save(folder / SPACE_NAME)
    Manifest(space.identity, MADE_BY, entries).save(folder)
    return folder


def write_chunks(
    folder: Path,
    chunks: Sequence[Chunk],
    split: str = "train",
    space: ClipSpace | None = None,
    states: States = "float16",
) -> Path:
    """A set whose records are these chunks."""
    space = space or make_space()
    with ShardWriter(folder / "0000.tar", states) as writer:
        for chunk in chunks:
            writer.write(chunk, split)
        entries = [writer.close()]
    space.save(folder / SPACE_NAME)
    Manifest(space.identity, MADE_BY, entries).save(folder)
    return folder


def overwrite(folder: Path, record: int, member: str, content: bytes, at: int = 0) -> None:
    """Tamper: put ``content`` over the bytes of a member, ``at`` bytes after its start. The manifest stays as it is."""
    manifest = Manifest.load(folder)
    shard, entry = [(shard, entry) for shard in manifest.shards for entry in shard.records][record]
    with open(folder / shard.name, "r+b") as file:
        file.seek(entry.members[member][0] + at)
        file.write(content)


def make_sparse_shard_set(folder: Path, gigabytes: float, dim: int = 768, pairs: int = 1024, tokens: int = 13) -> Path:
    """A set as large as wished whose embeddings are holes in the files: it takes next to no disk, and reads as zeros."""
    folder.mkdir(parents=True, exist_ok=True)
    space = make_space(dim, dim)
    lengths = np.full(pairs, tokens, dtype=np.int16)
    shapes = {"image_embed": (pairs, dim), "text_embed": (pairs, dim), "text_states": (pairs * tokens, dim)}
    shard_records = 50
    record_bytes = sum(2 * rows * width for rows, width in shapes.values())
    entries = []
    for number in range(max(1, round(gigabytes * 1e9 / record_bytes / shard_records))):
        records, position = [], 0
        with open(folder / f"{number:04d}.tar", "wb") as file:
            for record in range(shard_records):
                members = {}
                for name, shape in {**shapes, "lengths": (pairs,), "group": (pairs,)}.items():
                    file.seek(position)
                    header = {
                        "descr": np.lib.format.dtype_to_descr(MEMBERS[name].dtype),
                        "fortran_order": False,
                        "shape": shape,
                    }
                    np.lib.format.write_array_header_1_0(file, header)
                    if name == "lengths":
                        file.write(lengths.tobytes())
                        end = file.tell()
                    else:
                        end = file.tell() + MEMBERS[name].dtype.itemsize * int(np.prod(shape))
                    members[f"{name}.npy"] = (position, end - position)
                    position = -(-end // 512) * 512
                records.append(
                    RecordEntry(f"{number:04d}_{record:05d}", "train", pairs, pairs, pairs * tokens, 0, "", members)
                )
            file.truncate(position)
        total = pairs * shard_records
        entries.append(ShardEntry(f"{number:04d}.tar", total, total * tokens, position, "", 0, [], 0, records))
    space.save(folder / SPACE_NAME)
    Manifest(space.identity, MADE_BY, entries).save(folder)
    return folder
