"""Chunk: the pairs of one record, and the members that store them (see docs/data.md and docs/design.md).

KEY.image_embed.npy     (I, E)  float16  one row for each stored image; I = n without image_rows
KEY.image_rows.npy      (n,)    int32    optional: each pair's row of image_embed, where several captions share one image
KEY.text_embed.npy      (n, C)  float16  C = E, but where the text embeddings are conditions of another kind
KEY.text_states.npy     (T, W)  float16  T = sum of lengths; real tokens only, one caption after another
KEY.token_ids.npy       (T,)    int32    in a set that stores token ids, in place of text_states
KEY.lengths.npy         (n,)    int16    all 0 in a set without token states; then T = 0
KEY.group.npy           (n,)    int64    number of each pair's image: equal in the whole set if the image is the same
KEY.captions.json                        {"captions": n strings, "keys": n strings, "subsets": n strings (optional)}
KEY.negative_embed.npy  (n, E)  float16  optional: embedding of the counterpart; a row of NaN if there is none
KEY.negative_text_embed.npy (n, C) float16 optional: embedding of the negative caption; a row of NaN if there is none
KEY.control_embed.npy   (n, E)  float16  optional: embedding of a control image, such as edges; a row of NaN if there is none
KEY.subject_counts.npy  (n,)    int16    optional, and the next two with it: number of subjects of each caption; the sum is S
KEY.subject_spans.npy   (S, 2)  int16    first token of the subject in its caption, and the token after its last
KEY.subject_embed.npy   (S, E)  float16  image embedding of the subject alone

A set of int8 states holds these two in place of text_states (see `states`):

KEY.text_states_int8.npy  (T, W)  int8
KEY.text_states_scale.npy (T,)    float16  the factor of each row
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Integer


@dataclass(frozen=True)
class Member:
    """One array of a record. ``shape`` names its sizes: pairs, images, tokens, subjects, dim, text_dim, width, or a number."""

    dtype: np.dtype
    shape: tuple[str | int, ...]
    optional: bool = False


_HALF, _SHORT = np.dtype(np.float16), np.dtype(np.int16)
MEMBERS = {
    "image_embed": Member(_HALF, ("images", "dim")),
    "text_embed": Member(_HALF, ("pairs", "text_dim")),
    "text_states": Member(_HALF, ("tokens", "width"), optional=True),
    "token_ids": Member(np.dtype(np.int32), ("tokens",), optional=True),
    "lengths": Member(_SHORT, ("pairs",)),
    "group": Member(np.dtype(np.int64), ("pairs",)),
    "image_rows": Member(np.dtype(np.int32), ("pairs",), optional=True),
    "negative_embed": Member(_HALF, ("pairs", "dim"), optional=True),
    "negative_text_embed": Member(_HALF, ("pairs", "text_dim"), optional=True),
    "control_embed": Member(_HALF, ("pairs", "dim"), optional=True),
    "subject_counts": Member(_SHORT, ("pairs",), optional=True),
    "subject_spans": Member(_SHORT, ("subjects", 2), optional=True),
    "subject_embed": Member(_HALF, ("subjects", "dim"), optional=True),
}
"""The arrays, by their field of Chunk; each is stored as KEY.FIELD.npy."""
INT8_MEMBERS = {
    "text_states_int8": Member(np.dtype(np.int8), ("tokens", "width"), optional=True),
    "text_states_scale": Member(_HALF, ("tokens",), optional=True),
}
"""The arrays that hold text_states in a set of int8 states."""
STORED = {**MEMBERS, **INT8_MEMBERS}
CAPTIONS_MEMBER = "captions.json"
SUBJECTS = ("subject_counts", "subject_spans", "subject_embed")


def member_name(field: str) -> str:
    """Name of the field's member in a record, without ``KEY.``."""
    return f"{field}.npy"


@dataclass(eq=False)
class Chunk:
    """The pairs of one record. Every array has one row for each pair, but those of tokens and of subjects."""

    image_embed: Float[np.ndarray, "pairs dim"]
    text_embed: Float[np.ndarray, "pairs text_dim"]
    text_states: Float[np.ndarray, "tokens width"] | None
    """None if there are token ids, or if the states were not read."""
    lengths: Integer[np.ndarray, " pairs"]
    captions: list[str]
    keys: list[str]
    subsets: list[str] | None = None
    negative_embed: Float[np.ndarray, "pairs dim"] | None = None
    """Image embedding of each caption's counterpart; a row of NaN if there is none."""
    negative_text_embed: Float[np.ndarray, "pairs text_dim"] | None = None
    """Text embedding of each negative caption; a row of NaN if there is none."""
    group: Int[np.ndarray, " pairs"] | None = None
    """Number of each pair's image. None: pairs with equal image embeddings show one image."""
    image_rows: Integer[np.ndarray, " pairs"] | None = None
    """Pairs with one number (0 ... images - 1) have equal image embeddings, and one of them is stored. None stores all."""
    control_embed: Float[np.ndarray, "pairs dim"] | None = None
    """Embedding of an image that controls the generated one; a row of NaN if there is none."""
    subject_counts: Integer[np.ndarray, " pairs"] | None = None
    subject_spans: Integer[np.ndarray, "subjects 2"] | None = None
    subject_embed: Float[np.ndarray, "subjects dim"] | None = None
    token_ids: Integer[np.ndarray, " tokens"] | None = None

    def __len__(self) -> int:
        return len(self.image_embed)

    @property
    def images(self) -> int:
        """Number of stored image embeddings."""
        return len(self) if self.image_rows is None else int(self.image_rows.max(initial=-1)) + 1

    @property
    def tokens(self) -> int:
        return int(self.lengths.sum())

    @property
    def subjects(self) -> int:
        return 0 if self.subject_embed is None else len(self.subject_embed)

    def problem(self) -> str | None:
        """The reason that these pairs cannot be a record, or None."""
        texts = {"captions": self.captions, "keys": self.keys, "subsets": self.subsets}
        for name, values in texts.items():
            if values is not None and len(values) != len(self):
                return f"{name} has {len(values)} entries for {len(self)} pairs"
        if not len(self):
            return "it holds no pair"
        held = {name: len(array) for name in ("text_states", "token_ids") if (array := getattr(self, name)) is not None}
        if len(held) != 1:
            return f"it holds {' and '.join(held) or 'neither text_states nor token_ids'}; it needs one of them"
        name, rows = held.popitem()
        if self.lengths.min() < 0 or self.tokens != rows:
            return f"lengths add up to {self.tokens}, but {name} has {rows} rows"
        if self.token_ids is not None and self.token_ids.min(initial=0) < 0:
            return "token_ids holds negative numbers"
        for name in ("image_embed", "text_embed", "text_states", "subject_embed"):
            array = getattr(self, name)
            if array is not None and not np.isfinite(array).all():
                return f"{name} holds NaN, infinity or a value too large for float16; leave such pairs out"
        for name in ("negative_embed", "negative_text_embed", "control_embed"):
            array = getattr(self, name)
            if array is not None and not (np.isfinite(array).all(1) | np.isnan(array).all(1)).all():
                return f"{name} has a row that is neither finite nor all NaN, which stands for none; leave such pairs out"
        return self._image_problem() or self._subject_problem()

    def _image_problem(self) -> str | None:
        if self.image_rows is None:
            return None
        numbers, first = np.unique(self.image_rows, return_index=True)
        if not np.array_equal(numbers, np.arange(len(numbers))):
            return f"image_rows must use each of 0 ... {self.images - 1}, and uses {numbers.tolist()}"
        if not np.array_equal(self.image_embed[first][self.image_rows], self.image_embed):
            return "image_rows gives pairs of different image embeddings one image"
        return None

    def _subject_problem(self) -> str | None:
        given = [name for name in SUBJECTS if getattr(self, name) is not None]
        if not given:
            return None
        if self.subject_counts is None or self.subject_spans is None or self.subject_embed is None:
            return f"{given[0]} is given without {next(name for name in SUBJECTS if name not in given)}"
        if self.subject_counts.min() < 0 or self.subject_counts.sum() != len(self.subject_spans):
            return f"subject_counts add up to {self.subject_counts.sum()}, but there are {len(self.subject_spans)} spans"
        first, end = self.subject_spans.T
        if (first < 0).any() or (first >= end).any() or (end > np.repeat(self.lengths, self.subject_counts)).any():
            return "a span of subject_spans is empty or lies outside the tokens of its caption"
        return None


def image_numbers(image_embed: Float[np.ndarray, "pairs dim"]) -> Int[np.ndarray, " pairs"]:
    """Groups of pairs that have only an embedding: a hash of its stored form."""
    stored = np.ascontiguousarray(image_embed, dtype=np.float16) + np.float16(0)  # -0 and 0 are one number
    return np.array([content_number(row.tobytes()) for row in stored], dtype=np.int64)


def content_number(content: bytes) -> int:
    """63 bits of its SHA-256. With ten million different images, two share a number in one of 200,000 sets."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") >> 1


def without_direction(embed: Float[np.ndarray, "pairs dim"]) -> Bool[np.ndarray, " pairs"]:
    """True for zero vectors, and for vectors that lose 1 % or more of their norm in float16."""
    with np.errstate(over="ignore", invalid="ignore"):
        exact, stored = (np.linalg.norm(numbers.astype(np.float64), axis=1) for numbers in (embed, embed.astype(np.float16)))
        return (stored == 0) | (np.abs(stored - exact) > 0.01 * exact)


def shared_images(image_embed: Float[np.ndarray, "pairs dim"]) -> Int[np.ndarray, " pairs"] | None:
    """``image_rows`` of a Chunk: equal rows get one number, in order of first use. None if all rows differ."""
    numbers: dict[bytes, int] = {}
    rows = [numbers.setdefault(row.tobytes(), len(numbers)) for row in image_embed.astype(np.float16)]
    return None if len(numbers) == len(rows) else np.array(rows, dtype=np.int32)
