from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from eclipse_pl.embedding import ClipSpace

Embeds = Float[Tensor, "batch dim"]


class Decoder(ABC):
    """Generates images from image embeddings of its space.

    Callbacks and commands use a decoder. It never becomes part of a LightningModule, whose weights are the prior's.
    """

    space: str
    """Name or encoder tag of the space of its embeddings: ``world``, ``ViT-L-14/openai``."""
    zero_image: Float[Tensor, "dim"] | None = None
    """Embedding that guidance leads away from by default. ``require_space`` takes it from the space."""
    fills_batches: bool = True
    """Whether a small batch costs as much as a whole one, so that an image is equal to the last bit whatever stands beside it.
    Without it few images come sooner, and those of another batch may differ by rounding."""
    reads_caption: bool = False
    """Whether its images depend on the caption itself too, and not on the prior's embedding alone."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """E, width of the embeddings."""

    @property
    def takes_negative(self) -> bool:
        """Whether ``negative_embed`` changes the images."""
        return True

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Everything except embedding, prompt and seed that its images depend on, as JSON values."""

    def require_space(self, other: ClipSpace, name: str) -> None:
        """Check that the embeddings of ``name`` ("the prior") fit.

        Raises:
            ValueError: The embeddings belong to another space, or are normalised.
        """
        if other.normalised:
            raise ValueError(
                f"{name} works on normalised embeddings ({other}), and decoders need raw ones. "
                "Encode the data again with `python -m data_prep embed`."
            )
        if self.space not in (other.name, other.encoder):  # before a file is fetched
            raise ValueError(
                f"The decoder decodes embeddings of {self.space}, and {name} belongs to {other}, another CLIP. Take a decoder "
                "of that space; where it is the same CLIP under another name, set the decoder's `space` to that name."
            )
        if self.dim != other.dim:
            raise ValueError(f"The decoder's weights take embeddings {self.dim} wide, and {name} belongs to {other}.")
        self.zero_image = other.zero_image

    def require_negative(self) -> None:
        """Check that a negative prompt changes the images.

        Raises:
            ValueError: It does not.
        """
        if not self.takes_negative:
            raise ValueError(
                f"{type(self).__name__} takes no negative prompt here: it is not guided (`guidance` above 1 guides), or its "
                "negative condition is fixed. Leave the prompt out, or take a guided decoder such as Kandinsky's."
            )

    @staticmethod
    def require_finite(image_embed: Embeds) -> None:
        """Check embeddings before they are decoded.

        Raises:
            ValueError: One of them holds NaN or infinity, of which a decoder may make an image that looks sound.
        """
        broken = (~image_embed.isfinite().all(1)).nonzero()[:, 0].tolist()
        if broken:
            raise ValueError(
                f"{len(broken)} of {len(image_embed)} image embeddings hold NaN or infinity (the first of them is number "
                f"{broken[0]}, counted from 0), and no image belongs to them. Check the prior that predicted them: "
                "`python -m eclipse_pl validate` shows whether its weights are broken."
            )

    @abstractmethod
    def decode(
        self,
        image_embed: Embeds,
        prompts: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
        negative_embed: Embeds | None = None,
    ) -> list[Image.Image]:
        """Return one image per embedding. An image depends on its embedding, prompt and seed alone, not on its batch.

        Default prompts are empty. Default seeds count from 0.

        Guidance leads away from ``negative_embed``, such as the prior's embeddings of a negative prompt. The default is the
        decoder's own empty condition.

        Raises:
            ValueError: ``negative_embed`` would change nothing (`takes_negative`), or an embedding is not finite.
        """

    def close(self) -> None:  # noqa: B027  # a decoder without weights has nothing to free
        """Free the memory of the weights. The next use loads them again."""

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
