"""Sets of raw pairs for the tests, and `embed_shards` with small chunks and batches."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from eclipse_pl.data.manifest import Manifest, SkippedPair
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.embed.embed_shards import embed_shards
from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.raw.find_sources import find_sources
from eclipse_pl.raw.pairs import RawPair
from eclipse_pl.raw.source import Source

MADE_BY = "python -m data_prep embed --source raw/*.tar --out shards"


def image_bytes(number: int, kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (40, 36, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


def sample(number: int, **about: Any) -> dict[str, bytes]:
    caption = about.pop("caption", f"image number {number} of the set")
    return {"png": image_bytes(number), "txt": caption.encode(), **({"json": json.dumps(about).encode()} if about else {})}


def write_tar(path: Path, samples: dict[str, dict[str, bytes]], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for key, members in samples.items():
            for suffix, content in members.items():
                header = tarfile.TarInfo(f"{key}.{suffix}")
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
    return path


def write_images(folder: Path, numbers: range, kind: str = "png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / f"{number}.{kind}").write_bytes(image_bytes(number))
    return folder


def read_source(source: str | Source) -> tuple[dict[str, RawPair], list[SkippedPair], list[str]]:
    """The pairs by key, the skipped pairs and the lines for the user."""
    found = find_sources([source])
    read = [one for part in found.parts.values() for one in part.read()]
    pairs = [pair for one in read if isinstance(one, list) for pair in one]
    assert len({pair.key for pair in pairs}) == len(pairs)
    return {pair.key: pair for pair in pairs}, [one for one in read if isinstance(one, SkippedPair)], found.lines


def raw_set(folder: Path, tars: int = 3, pairs: int = 7) -> list[str]:
    """Tars of numbered images; each has one image that cannot be decoded."""
    for tar in range(tars):
        numbered = {f"{tar}{pair:03d}": sample(10 * tar + pair) for pair in range(pairs)}
        numbered[f"{tar}002"]["png"] = b"no image"
        write_tar(folder / f"{tar:04d}.tar", numbered)
    return [str(folder / f"{{0000..{tars - 1:04d}}}.tar")]


def embed(sources: list[str], encoder: OpenClipEncoder, out: str | Path, **options: Any) -> Manifest:
    made = embed_shards(
        find_sources(sources),
        encoder,
        out,
        MADE_BY,
        **{"chunk": 4, "batch_size": 3, "workers": 0, "val": 0.2, "test": 0.1} | options,
    )
    assert made is not None
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def read_all(folder: Path) -> dict[str, dict[str, Any]]:
    """Every pair of a set by its key."""
    shards = ShardSet(folder)
    pairs: dict[str, dict[str, Any]] = {}
    for number, entry in enumerate(shards.entries):
        chunk = shards.read_chunk(number)
        tokens = chunk.text_states if chunk.token_ids is None else chunk.token_ids
        states = np.split(tokens, np.cumsum(chunk.lengths)[:-1])
        for row, key in enumerate(chunk.keys):
            pairs[key] = {
                "split": entry.split,
                "caption": chunk.captions[row],
                "image": torch.tensor(chunk.image_embed[row]).float(),
                "text": torch.tensor(chunk.text_embed[row]).float(),
                "states": torch.tensor(states[row]).float(),
                "subset": chunk.subsets[row] if chunk.subsets else None,
                "negative": row_of(chunk.negative_embed, row),
                "negative_text": row_of(chunk.negative_text_embed, row),
            }
    return pairs


def row_of(array: np.ndarray | None, row: int) -> torch.Tensor | None:
    return None if array is None else torch.tensor(array[row]).float()
