"""What `speed` measures with: pairs whose captions are as long as MSCOCO's and whose content is random."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from eclipse_pl.data.chunk import Chunk
from eclipse_pl.data.manifest import SPACE_NAME, Manifest, ShardEntry
from eclipse_pl.data.shards import ShardWriter
from eclipse_pl.embedding import ClipSpace

CONTEXT = 77
# One token each in the vocabulary of OpenAI's CLIP.
WORDS = ["a", "the", "of", "in", "on", "with", "man", "dog", "cat", "bus", "red", "two", "big", "street", "white", "near"]


def draw_lengths(captions: int, seed: int = 0) -> Int[Tensor, " captions"]:
    """Token counts as in MSCOCO (13.5 on average, start and end counted), drawn from the histogram in the package."""
    histogram = json.loads(Path(__file__).with_name("caption_lengths.json").read_text())["captions"]
    weights = torch.tensor(list(histogram.values()), dtype=torch.float64)
    drawn = torch.multinomial(weights, captions, replacement=True, generator=torch.Generator().manual_seed(seed))
    return torch.tensor([int(length) for length in histogram])[drawn]


def write_shards(folder: Path, shards: int, records: int, chunk: int, dim: int) -> list[ShardEntry]:
    """A set of ``shards`` of ``records`` of ``chunk`` training pairs each, states and embeddings of one width."""
    rng, lengths = np.random.default_rng(0), draw_lengths(chunk).numpy()
    # One chunk over and over: what is in it makes no difference.
    pairs = Chunk(
        image_embed=rng.random((chunk, dim), dtype=np.float32),
        text_embed=rng.random((chunk, dim), dtype=np.float32),
        text_states=rng.random((int(lengths.sum()), dim), dtype=np.float32),
        lengths=lengths,
        captions=[""] * chunk,
        keys=[""] * chunk,
    )
    space = ClipSpace("speed", dim, dim, CONTEXT, "speed", False, torch.zeros(dim), torch.ones(dim))
    entries = []
    for number in range(shards):
        with ShardWriter(folder / f"{number:04d}.tar") as writer:
            for _ in range(records):
                writer.write(pairs, "train")
            entries.append(writer.close())
    space.save(folder / SPACE_NAME)
    Manifest(space.identity, "python -m eclipse_pl speed", entries).save(folder)
    return entries


def write_images(path: Path, pairs: int) -> list[str]:
    """Pairs in img2dataset's layout, with smooth random images and captions as long as MSCOCO's; returns the captions."""
    rng = np.random.default_rng(0)
    captions = [" ".join(rng.choice(WORDS, int(length) - 2)) for length in draw_lengths(pairs)]
    with tarfile.open(path, "w") as tar:
        for number, caption in enumerate(captions):
            image = io.BytesIO()
            smooth_image(256, number).save(image, "JPEG", quality=95)
            for ending, content in (("jpg", image.getvalue()), ("txt", caption.encode())):
                member = tarfile.TarInfo(f"{number:06d}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return captions


def smooth_image(side: int, seed: int) -> Image.Image:
    """A square of random colours that run into each other, which compresses about as a photograph does."""
    coarse = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    return coarse.resize((side, side), Image.Resampling.BICUBIC)
