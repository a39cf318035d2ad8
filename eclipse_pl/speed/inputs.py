"""Random inputs of `speed`. Their captions have the lengths of MSCOCO's."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from eclipse_pl.data.chunk import Chunk
from eclipse_pl.data.manifest import SPACE_NAME, Manifest, ShardEntry
from eclipse_pl.data.shards import ShardWriter
from eclipse_pl.embedding import ClipSpace, TextCondition

CONTEXT = 77
WORDS = ["a", "the", "of", "in", "on", "with", "man", "dog", "cat", "bus", "red", "two", "big", "street", "white", "near"]
"""Each is one token of OpenAI's CLIP."""


def draw_lengths(captions: int, seed: int = 0) -> Int[Tensor, " captions"]:
    """Draw token counts from the histogram of MSCOCO in the package (mean 13.5, with start and end token)."""
    lengths, weights = _histogram()
    return lengths[torch.multinomial(weights, captions, replacement=True, generator=torch.Generator().manual_seed(seed))]


def mean_length() -> float:
    """Mean number of tokens of MSCOCO's captions."""
    lengths, weights = _histogram()
    return float((lengths * weights).sum() / weights.sum())


def _histogram() -> tuple[Int[Tensor, " lengths"], Float[Tensor, " lengths"]]:
    """The lengths of MSCOCO's captions, and the number of captions of each."""
    histogram = json.loads(Path(__file__).with_name("caption_lengths.json").read_text())["captions"]
    return torch.tensor([int(length) for length in histogram]), torch.tensor(list(histogram.values()), dtype=torch.float64)


def write_shards(folder: Path, shards: int, records: int, chunk: int, dim: int) -> list[ShardEntry]:
    """Write a set of ``shards``, each of ``records`` of ``chunk`` training pairs. ``dim`` is the width of all arrays."""
    rng, lengths = np.random.default_rng(0), draw_lengths(chunk).numpy()
    # every record holds the same pairs but for a number, because their content does not change the timing
    pairs = Chunk(
        image_embed=rng.random((chunk, dim), dtype=np.float32),
        text_embed=rng.random((chunk, dim), dtype=np.float32),
        text_states=rng.random((int(lengths.sum()), dim), dtype=np.float32),
        lengths=lengths,
        captions=[""] * chunk,
        keys=[""] * chunk,
    )
    space = random_space(dim)
    entries = []
    for number in range(shards):
        with ShardWriter(folder / f"{number:04d}.tar") as writer:
            for record in range(records):
                pairs.image_embed[0, 0] = number * records + record  # a cache of records would keep equal ones once
                writer.write(pairs, "train")
            entries.append(writer.close())
    space.save(folder / SPACE_NAME)
    Manifest(space.identity, "python -m eclipse_pl speed", entries).save(folder)
    return entries


def write_images(path: Path, pairs: int) -> list[str]:
    """Write smooth random images with captions in img2dataset's layout, and return the captions."""
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
    """Draw a square of smooth random colours, which compresses about as well as a photograph."""
    coarse = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    return coarse.resize((side, side), Image.Resampling.BICUBIC)


def random_space(dim: int, width: int | None = None) -> ClipSpace:
    """A space whose token states are ``width`` wide, by default as wide as its embeddings."""
    width = dim if width is None else width
    statistics = (torch.zeros(dim), torch.ones(dim), torch.randn(2, width), torch.randn(dim))
    return ClipSpace("speed", dim, width, CONTEXT, "speed", False, *statistics)


def random_text(dim: int, lengths: Int[Tensor, " captions"], width: int | None = None) -> TextCondition:
    """Captions of ``lengths`` tokens, whose bounds the host knows, as a loader gives them; ``width`` as in `random_space`."""
    width = dim if width is None else width
    bounds = int(lengths.min()), int(lengths.max())
    return TextCondition(torch.randn(len(lengths), dim), torch.randn(int(lengths.sum()), width), lengths, bounds)


def padded(text: TextCondition) -> tuple[Float[Tensor, "captions 77 dim"], Bool[Tensor, "captions 77"]]:
    """Return the token states as diffusers reads them, padded to 77 tokens, and their mask."""
    device = text.text_embed.device
    mask = torch.arange(CONTEXT, device=device) < text.lengths[:, None]
    states = torch.zeros(len(text), CONTEXT, text.text_states.shape[1], device=device)
    return states.index_put((mask,), text.text_states), mask
