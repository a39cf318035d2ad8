"""Embeddings of the images that a caption describes: scenes drawn anew for each caption, and read by the world's CLIP."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float

from eclipse_pl.files import cache_folder
from eclipse_pl.kept_array import kept_array
from eclipse_pl.open_clip_model import local_dir_tag
from eclipse_pl.world.drawing import render
from eclipse_pl.world.encoder import FOLDER, WorldEncoder
from eclipse_pl.world.redrawing import Redrawing
from eclipse_pl.world.scenes import Scene

BATCH = 256
"""Images that are encoded at a time."""
STREAM = 0xD8
"""A part of the seed, so that no scene of a set is drawn again by chance."""


def redrawn_embeds(redrawing: Redrawing, captions: Sequence[str], count: int) -> Float[np.ndarray, "captions count dim"]:
    """Image embeddings of ``count`` scenes for each caption, in float16 as in shards.

    32 scenes for 1,000 captions take about three minutes on one core, once: they are kept in the user's cache, for all runs on
    these captions. Only one of several processes makes them.

    Raises:
        ValueError: A text is no caption of this world.
    """
    first = render(redrawing.scenes(captions[0], 1, (0, STREAM))[0]).tobytes()  # changes with the code that draws
    world = (local_dir_tag(FOLDER), redrawing.split, redrawing.detail, sorted(redrawing.colours), count, list(captions))
    key = hashlib.sha256(repr(world).encode() + first).hexdigest()[:16]

    def compute() -> np.ndarray:
        embeds = encode(scenes_of(redrawing, captions, count), count * len(captions))
        return embeds.reshape(len(captions), count, -1)

    return kept_array(cache_folder("world") / f"redrawn-{key}.npy", compute)


def scenes_of(redrawing: Redrawing, captions: Sequence[str], count: int) -> Iterator[Scene]:
    for number, caption in enumerate(captions):
        yield from redrawing.scenes(caption, count, (number, STREAM))


def encode(scenes: Iterator[Scene], total: int) -> Float[np.ndarray, "scenes dim"]:
    from rich.progress import track

    encoder = WorldEncoder()
    embeds = []
    for _ in track(range(0, total, BATCH), "scenes redrawn for captions"):
        pixels = torch.stack([encoder.image_transform(render(scene)) for scene in islice(scenes, BATCH)])
        embeds.append(encoder.encode_images(pixels).half().cpu().numpy())
    return np.concatenate(embeds)
