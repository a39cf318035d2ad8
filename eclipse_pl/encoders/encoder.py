"""Encoder: from images and captions to a CLIP space. A config names a subclass by ``class_path``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from eclipse_pl.device import precision_name
from eclipse_pl.embedding import ClipSpace, TextCondition

NO_CAPTIONS = "Give conditions instead: `sample --conditions FILE.npy`, or `prior.sample(TextCondition.pooled(conditions))`."
"""What to do with a prior that reads no captions."""


@dataclass(frozen=True, eq=False)
class Tokens:
    """Tokenised captions, padded to the context."""

    ids: Int[Tensor, "batch context"]
    lengths: Int[Tensor, " batch"]
    """Number of real tokens, start and end included. It comes from the token that the tower pools, not from padding."""
    cut: Bool[Tensor, " batch"]
    """True if the caption was longer than the context and lost its last words. Its end token is kept, as in CLIP."""

    def packed_ids(self) -> Int[Tensor, " tokens"]:
        """The ids of the real tokens, one caption after another."""
        return self.ids[torch.arange(self.ids.shape[1]) < self.lengths[:, None]]

    @classmethod
    def packed(cls, ids: Int[Tensor, " tokens"], lengths: Int[Tensor, " batch"]) -> Tokens:
        """The captions of `packed_ids`, padded to the longest of them. Those that were cut are not known."""
        padded = torch.zeros(len(lengths), int(lengths.max()), dtype=torch.int64)
        padded[torch.arange(padded.shape[1]) < lengths[:, None]] = ids.long()
        return cls(padded, lengths, torch.zeros(len(lengths), dtype=torch.bool))


class Encoder(ABC):
    """Both towers of one CLIP with their preprocessing. Embeddings are raw: not divided by their norm."""

    name: str
    """Short name of the space: ``ViT-L-14/openai``, ``world``."""
    tag: str
    """``ClipSpace.encoder``: model and weights. Equal tags mean equal embeddings, but for the rounding of ``precision``."""
    precision: torch.dtype = torch.float32
    """Of the matrix products."""
    dim: int
    """Width E of both embeddings."""
    text_width: int
    """Width W of the token states."""
    context_length: int
    """Maximum number of tokens of a caption, start and end included."""
    image_size: int
    """Side of the square that the image tower reads, in pixels."""
    image_transform: Callable[[Image.Image], Float[Tensor, "3 height width"]]
    """From a decoded image to the image tower's input. It can be pickled, because it runs in loader workers."""

    @property
    def settings(self) -> dict[str, str]:
        """What changes the numbers of embeddings, beside model and weights. All shards of a set share it."""
        return {"precision": precision_name(self.precision)}

    @abstractmethod
    def encode_images(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        """Raw image embeddings of the results of ``image_transform``, float32, on the encoder's device."""

    @abstractmethod
    def tokenize(self, captions: list[str]) -> Tokens:
        """Token ids, lengths, and marks of the captions that were truncated. On the CPU."""

    @abstractmethod
    def encode_tokens(self, tokens: Tokens) -> TextCondition:
        """Raw pooled embeddings and the states after the final layer norm, float32, real tokens only."""

    def require_space(self, other: ClipSpace, name: str) -> None:
        """Raise ValueError unless ``name`` ("the prior") can read captions that this encoder has encoded."""
        other.require_captions("An encoder", NO_CAPTIONS)
        if self.tag != other.encoder:
            raise ValueError(f"{name} belongs to {other}, and the encoder is {self.tag}. Use the encoder of that space.")
        if other.normalised:
            raise ValueError(
                f"{name} works on normalised embeddings ({other}), but encoders make raw ones. "
                "Encode the data again with `python -m data_prep embed`."
            )

    def __call__(self, captions: str | Sequence[str]) -> TextCondition:
        """Encode one caption, or several.

        Raises:
            ValueError: There is none.
        """
        captions = [captions] if isinstance(captions, str) else list(captions)
        if not captions:
            raise ValueError("There is no caption to encode: give a text, or a list of texts.")
        return self.encode_text(captions)

    def encode_text(self, captions: list[str]) -> TextCondition:
        return self.encode_tokens(self.tokenize(captions))

    def space(self, image_mean: Float[Tensor, " dim"], image_std: Float[Tensor, " dim"]) -> ClipSpace:
        """The space of this encoder, with the statistics of the image embeddings of one set of pairs."""
        empty = self.encode_text([""])
        # Kandinsky's negative image is zeros *after* normalisation (KandinskyV22PriorPipeline.get_zero_embed), not black.
        zero_image = self.encode_images(torch.zeros(1, 3, self.image_size, self.image_size))
        return ClipSpace(
            name=self.name,
            dim=self.dim,
            text_width=self.text_width,
            context_length=self.context_length,
            encoder=self.tag,
            normalised=False,
            image_mean=image_mean,
            image_std=image_std,
            empty_states=empty.text_states.cpu(),
            empty_embed=empty.text_embed[0].cpu(),
            zero_image=zero_image[0].cpu(),
        )
