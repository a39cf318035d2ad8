from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eclipse_pl.embedding import TextCondition


class StandardisedNetwork(nn.Module):
    """A network that predicts image embeddings, and the statistics that convert its output to raw embeddings.

    Both have the names of diffusers' ``PriorTransformer``. There they are parameters that no forward pass uses, which is an
    error under DistributedDataParallel. Their initial value there is zero, so ``post_process_latents`` of a network trained on
    raw embeddings gives zeros. In this class they are buffers, and they change nothing before `set_statistics` is called.
    """

    clip_mean: Float[Tensor, "1 dim"]
    """Subtracted from embeddings to standardise them. Zero for a network that predicts raw embeddings."""
    clip_std: Float[Tensor, "1 dim"]
    """Divides embeddings to standardise them. One for a network that predicts raw embeddings."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("clip_mean", torch.zeros(1, dim))
        self.register_buffer("clip_std", torch.ones(1, dim))

    def set_statistics(self, mean: Float[Tensor, " dim"], std: Float[Tensor, " dim"]) -> None:
        """Make the network predict embeddings standardised by these (unCLIP's whitening). They are saved with the weights.

        Raises:
            ValueError: The standard deviation of a dimension is zero or unknown.
        """
        if unusable := int((~((std > 0) & std.isfinite() & mean.isfinite())).sum()):
            raise ValueError(
                f"{unusable} dimensions cannot be standardised: their standard deviation is zero or not a number. "
                " `python -m data_prep embed` measures the statistics over the training pairs. "
                "Make shards with training pairs, or set standardise to false."
            )
        self.clip_mean.copy_(mean)
        self.clip_std.copy_(std)

    def draws(self, noise: Float[Tensor, "draws batch dim"], text: TextCondition) -> Float[Tensor, "draws batch dim"]:
        """The predictions for several noises of each caption."""
        return torch.stack([self(one, text) for one in noise])

    @property
    def is_standardised(self) -> bool:
        return not (bool((self.clip_mean == 0).all()) and bool((self.clip_std == 1).all()))

    def standardise(self, image_embed: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """Raw embeddings, standardised as the network predicts them."""
        return (image_embed - self.clip_mean) / self.clip_std

    def raw(self, prediction: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """The network's output as raw embeddings: diffusers' ``post_process_latents``."""
        return prediction * self.clip_std + self.clip_mean
