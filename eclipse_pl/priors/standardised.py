from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class StandardisedNetwork(nn.Module):
    """A network that predicts image embeddings, and the mean and standard deviation that make its numbers raw ones.

    Named as in diffusers' ``PriorTransformer``. There they are parameters that no forward pass uses, which stops
    DistributedDataParallel; and zero at first, so that ``post_process_latents`` of a network trained on raw embeddings gives
    zeros. Here they are buffers that change nothing until `set_statistics` is called.
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
        """Let the network predict embeddings standardised by these (unCLIP's whitening); kept with the weights.

        Raises:
            ValueError: a dimension whose standard deviation is zero or unknown.
        """
        if unusable := int((~((std > 0) & std.isfinite() & mean.isfinite())).sum()):
            raise ValueError(
                f"{unusable} dimensions never vary, or nothing is known of them (standard deviation zero or not a number): "
                "they cannot be standardised. `python -m data_prep embed` measures both over the training pairs, "
                "so the shards need some; or set standardise to false."
            )
        self.clip_mean.copy_(mean)
        self.clip_std.copy_(std)

    @property
    def is_standardised(self) -> bool:
        return not (bool((self.clip_mean == 0).all()) and bool((self.clip_std == 1).all()))

    def standardise(self, image_embed: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """Raw embeddings as the network predicts them."""
        return (image_embed - self.clip_mean) / self.clip_std

    def raw(self, prediction: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """The network's output as raw embeddings: diffusers' ``post_process_latents``."""
        return prediction * self.clip_std + self.clip_mean
