from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from eclipse_pl.embedding import ClipSpace


class Decoder(ABC):
    """Paints pictures from image embeddings of its own space."""

    space: ClipSpace

    def require_space(self, other: ClipSpace, name: str) -> None:
        """Raise ValueError unless embeddings of ``name`` ("the prior") lie in this decoder's space and were not normalised."""
        if other.normalised:
            raise ValueError(
                f"{name} works on normalised embeddings ({other}), and decoders need raw ones. "
                "Encode the data again with `python -m data_prep embed`."
            )
        self.space.require_same(other, "the decoder", name)

    @abstractmethod
    def decode(
        self, image_embed: Float[Tensor, "batch dim"], prompts: Sequence[str], seeds: Sequence[int]
    ) -> list[Image.Image]:
        """One picture an embedding. A picture depends on its embedding, prompt and seed alone, not on its batch."""
