"""The bytes of a set of shards, computed from the format before anything is written."""

from __future__ import annotations

import math
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass

from eclipse_pl.data.chunk import STORED as MEMBERS

STORED = {
    "states, float16": ("text_states",),
    "states, int8": ("text_states_int8", "text_states_scale"),
    "token ids": ("token_ids",),
    "pooled only": (),
}
"""What a set can hold of a caption's tokens: the members of a record."""
COMMON = ("image_embed", "text_embed", "lengths", "group")
NPY_HEADER = 128
TOKEN_CHARACTERS, CAPTION_QUOTES, KEY_BYTES = 4.6, 4, 13
"""Assumed for captions.json: characters of a token (MSCOCO's), quotes and comma, and a key of nine digits with its own."""


@dataclass(frozen=True)
class ShardBytes:
    """Sizes that the bytes of a set depend on.

    ``dim`` and ``width`` are E and W, ``tokens`` the mean of a caption, start and end included, and ``chunk`` the pairs of a
    record. Each pair is taken to have an image of its own.
    """

    dim: int
    width: int
    tokens: float
    chunk: int = 1024

    def of_set(self, pairs: int, stored: str) -> int:
        """Bytes of the records of ``pairs`` pairs, with their tar headers and the padding between members."""
        whole, rest = divmod(pairs, self.chunk)
        return whole * self.of_record(self.chunk, STORED[stored]) + (self.of_record(rest, STORED[stored]) if rest else 0)

    def of_record(self, pairs: int, of_tokens: Iterable[str]) -> int:
        """Bytes of one record."""
        sizes = {"pairs": pairs, "images": pairs, "tokens": round(pairs * self.tokens)}
        sizes |= {"dim": self.dim, "text_dim": self.dim, "width": self.width}
        arrays = [MEMBERS[name] for name in (*COMMON, *of_tokens)]
        contents = [
            NPY_HEADER + array.dtype.itemsize * math.prod(sizes[str(size)] for size in array.shape) for array in arrays
        ]
        caption = TOKEN_CHARACTERS * max(self.tokens - 2, 0) + CAPTION_QUOTES  # start and end are no characters
        contents.append(round(pairs * (caption + KEY_BYTES)))
        return sum(tarfile.BLOCKSIZE + math.ceil(size / tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE for size in contents)
