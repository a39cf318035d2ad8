"""Pairs that lie in two splits: the same caption or the same image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from eclipse_pl.data.chunk import image_numbers
from eclipse_pl.data.manifest import SPLITS
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.raw.pairs import normal_caption

SAME_IMAGE = 0.999
"""Cosine from which two embeddings under one key are one image: batches of another size change the last digits."""


@dataclass
class Overlap:
    """How many captions and images two splits share, and one of them."""

    captions: Counter[tuple[str, str]] = field(default_factory=Counter)
    images: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, tuple[str, str]], str] = field(default_factory=dict)
    shared_keys: int = 0
    """Keys in two splits whose images differ: sources that count their samples from 0 each."""


def overlap(sets: Mapping[str, ShardSet]) -> Overlap:
    """Compare the held-out splits of all sets with each other and with all training pairs.

    Two pairs show one image where they are of one group, where their image embeddings are stored as the same bytes, or
    where they have one key and nearly the same embedding. Pairs that two sets have in the *same* split (both for training,
    both for testing) are no overlap. Memory holds the held-out pairs only.
    """
    found = Overlap()
    captions: dict[str, tuple[str, str]] = {}
    images: dict[int, tuple[str, str]] = {}
    keys: dict[str, tuple[str, str, np.ndarray]] = {}
    for split in reversed(SPLITS):  # test, val, and at last train, which is only looked up
        for name, shards in sets.items():
            place = f"{name} {split}" if len(sets) > 1 else split
            for record in shards.records(split):
                chunk = shards.read_chunk(int(record), with_states=False)
                assert chunk.group is not None
                stored = image_numbers(chunk.image_embed)
                stored = np.where(chunk.image_embed.any(1), stored, chunk.group)  # zero vectors look all the same
                for row, (caption, key) in enumerate(zip(chunk.captions, chunk.keys, strict=True)):
                    caption, numbers = normal_caption(caption), (int(chunk.group[row]), int(stored[row]))
                    other_split, other = captions.get(caption, (split, place))
                    if other_split != split:
                        found.captions[place, other] += 1
                        found.examples.setdefault(("captions", (place, other)), caption)
                    other_split, other, image = keys.get(key, (split, place, chunk.image_embed[row]))
                    same_key = other_split != split
                    is_same = same_key and _cosine(image, chunk.image_embed[row]) > SAME_IMAGE
                    found.shared_keys += same_key and not is_same
                    shown = next((images[number] for number in numbers if images.get(number, (split,))[0] != split), None)
                    if shown or is_same:
                        other = shown[1] if shown else other
                        found.images[place, other] += 1
                        found.examples.setdefault(("images", (place, other)), key)
                    if split != "train":
                        captions.setdefault(caption, (split, place))
                        keys.setdefault(key, (split, place, np.array(chunk.image_embed[row])))
                        for number in numbers:
                            images.setdefault(number, (split, place))
            shards.close()
    return found


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one.astype(np.float64), other.astype(np.float64)
    if one.shape != other.shape:
        return 0.0
    return float(one @ other / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-12))
