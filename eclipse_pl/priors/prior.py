"""Prior: what turns encoded captions into image embeddings. A training rule plus a way to sample, around a network."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eclipse_pl.embedding import ClipSpace, EmbeddingBatch, TextCondition


class Prior(nn.Module, ABC):
    """Base class of everything that is compared. Its embeddings live in ``space``; none is ever normalised."""

    space: ClipSpace

    def __init__(self, space: ClipSpace) -> None:
        super().__init__()
        self.space = space

    def start_from(self, weights: str | None) -> None:
        """Begin with the weights of another prior, to go on training it or to compare it; None leaves the prior as it is.

        ``weights`` is the folder of a run or one of its checkpoints (any prior, of the same space), or a folder or hub id that
        diffusers' ``PriorTransformer`` or ECLIPSE's authors published (see `released`). Constructors call it last.

        Raises:
            ValueError: there are no such weights, or they belong to another architecture or space.
        """
        if weights is not None:
            from eclipse_pl.priors.weights import load_weights

            load_weights(self, weights)

    @property
    def forward_passes(self) -> int | None:
        """Network forward passes that one embedding costs; None where there is no network, or the prior does not say."""
        return None

    @abstractmethod
    def losses(self, batch: EmbeddingBatch) -> dict[str, Tensor]:
        """Scalars by name: ``total``, which is minimised, and every term that goes into it.

        Random numbers come from torch's default generators: whoever wants a resumed run to repeat an uninterrupted one keeps
        or derives their state. Ranks may talk to each other here in training mode, never in evaluation mode.
        """

    @abstractmethod
    def sample(
        self, text: TextCondition, generator: torch.Generator | list[torch.Generator] | None = None
    ) -> Float[Tensor, "batch dim"]:
        """One raw image embedding a caption.

        A list of generators, one a caption, makes each result depend on its caption and its generator alone, whatever else
        is in the batch.
        """

    def end_of_epoch(self) -> None:
        """Called on every rank after the last training batch of an epoch, before validation.

        A prior without trainable parameters, which collects sums over the batches instead, solves for its weights here.
        """


def gaussian_noise(
    like: Float[Tensor, "batch dim"], generator: torch.Generator | list[torch.Generator] | None = None
) -> Float[Tensor, "batch dim"]:
    """N(0, I) of the shape, type and device of ``like``, drawn where the generator lives and moved.

    Raises:
        ValueError: a list of generators does not have one for each row.
    """
    if isinstance(generator, list):
        if len(generator) != len(like):
            raise ValueError(f"{len(generator)} generators for {len(like)} captions: pass one a caption, or a single one.")
        return torch.stack([torch.randn(like.shape[1:], generator=one, device=one.device) for one in generator]).to(like)
    return _draw(like, generator)


def _draw(like: Tensor, generator: torch.Generator | None) -> Tensor:
    # Always drawn in float32, so that one seed gives one picture whatever the precision.
    device = like.device if generator is None else generator.device
    return torch.randn(like.shape, generator=generator, device=device).to(like)
