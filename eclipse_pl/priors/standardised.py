"""StandardisedNetwork: a network that predicts image embeddings, and the statistics that make them raw embeddings."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eclipse_pl.arguments import one_of
from eclipse_pl.embedding import ClipSpace, TextCondition
from eclipse_pl.priors.whitening import Whitening

Standardise = Literal["none", "diagonal", "full"]
"""What a network predicts: raw embeddings, embeddings standardised in each dimension, or whitened ones."""

AGAIN = "`python -m data_prep embed` measures the statistics over the training pairs."


class StandardisedNetwork(nn.Module):
    """A network that predicts image embeddings, and the statistics that convert its output to raw embeddings.

    ``clip_mean`` and ``clip_std`` have the names of diffusers' ``PriorTransformer``. There they are parameters that no forward
    pass uses, which is an error under DistributedDataParallel. Their initial value there is zero, so ``post_process_latents``
    of a network trained on raw embeddings gives zeros. In this class they are buffers, and they change nothing before
    `standardise_by` is called. Whitening has two more buffers; ``clip_std`` is one then.
    """

    clip_mean: Float[Tensor, "1 dim"]
    """Subtracted from embeddings to standardise them. Zero for a network that predicts raw embeddings."""
    clip_std: Float[Tensor, "1 dim"]
    """Divides embeddings to standardise them. One for a network that predicts raw embeddings."""
    whitening: Float[Tensor, "dim dim"] | None
    """Whitens embeddings without their mean. None unless the network predicts whitened embeddings."""
    unwhitening: Float[Tensor, "dim dim"] | None
    """The inverse of ``whitening``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("clip_mean", torch.zeros(1, dim))
        self.register_buffer("clip_std", torch.ones(1, dim))
        self.register_buffer("whitening", None)
        self.register_buffer("unwhitening", None)
        self.lacks_covariance = False
        """True for a network that is to predict whitened embeddings, until it knows how to whiten them."""

    def standardise_by(self, space: ClipSpace, kind: Standardise) -> None:
        """Make the network predict embeddings standardised by the statistics of ``space``. They are saved with the weights.

        Args:
            space: Space with the statistics of the training pairs' image embeddings.
            kind: "none": raw embeddings. "diagonal": mean 0 and standard deviation 1 in each dimension, unCLIP's way. "full":
                whitened by the covariance; see `Whitening` for its floor. The covariance is not in checkpoints. Without it
                only saved weights make the network usable.

        Raises:
            ValueError: The kind is not known, or a statistic is unknown or not usable.
        """
        one_of("standardise", kind, get_args(Standardise))
        if kind == "diagonal":
            self.set_statistics(space.image_mean, space.image_std)
        elif kind == "full":
            self.set_whitening(space.image_mean, space.image_covariance)

    def set_statistics(self, mean: Float[Tensor, " dim"], std: Float[Tensor, " dim"]) -> None:
        """Make the network predict embeddings standardised by these.

        Raises:
            ValueError: The standard deviation of a dimension is zero or unknown.
        """
        if unusable := int((~((std > 0) & std.isfinite() & mean.isfinite())).sum()):
            raise ValueError(
                f"{unusable} dimensions cannot be standardised: their standard deviation is zero or not a number. "
                f"{AGAIN} Make shards with training pairs, or set standardise to none."
            )
        self.clip_mean.copy_(mean)
        self.clip_std.copy_(std)

    def set_whitening(self, mean: Float[Tensor, " dim"], covariance: Float[Tensor, "dim dim"] | None) -> None:
        """Make the network predict whitened embeddings. Without the covariance it waits for saved weights, which hold both.

        Raises:
            ValueError: The covariance holds NaN or infinity, or is zero.
        """
        self.lacks_covariance = covariance is None
        if covariance is None:
            self.whitening, self.unwhitening = (torch.eye(len(mean)) for _ in range(2))
            return
        if not (bool(covariance.isfinite().all()) and bool(mean.isfinite().all()) and bool(covariance.any())):
            raise ValueError(
                "Embeddings cannot be whitened: their covariance is zero or not finite. "
                f"{AGAIN} Make shards with training pairs, or set standardise to none."
            )
        found = Whitening(mean, covariance)
        self.clip_mean.copy_(mean)
        self.whitening, self.unwhitening = found.matrix.float(), found.inverse.float()

    @property
    def standardised(self) -> Standardise:
        if self.whitening is not None:
            return "full"
        return "none" if bool((self.clip_mean == 0).all()) and bool((self.clip_std == 1).all()) else "diagonal"

    def standardise(self, image_embed: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """Raw embeddings, standardised as the network predicts them."""
        if self.whitening is None:
            return (image_embed - self.clip_mean) / self.clip_std
        self._require_covariance()
        with torch.autocast(image_embed.device.type, enabled=False):  # directions of little variance need all digits
            return (image_embed.float() - self.clip_mean) @ self.whitening

    def raw(self, prediction: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """The network's output as raw embeddings: diffusers' ``post_process_latents``, or the inverse of whitening."""
        if self.unwhitening is None:
            return prediction * self.clip_std + self.clip_mean
        self._require_covariance()
        with torch.autocast(prediction.device.type, enabled=False):
            return prediction.float() @ self.unwhitening + self.clip_mean

    def draws(self, noise: Float[Tensor, "draws batch dim"], text: TextCondition) -> Float[Tensor, "draws batch dim"]:
        """The predictions for several noises of each caption."""
        return torch.stack([self(one, text) for one in noise])

    def _require_covariance(self) -> None:
        if self.lacks_covariance:
            raise ValueError(
                "standardise is 'full', but the space of the data holds no covariance of its image embeddings. Run the "
                "command that made the shards again: it keeps finished shards and measures the covariance. Or set standardise "
                "to diagonal."
            )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        if f"{prefix}whitening" in state_dict:
            self.lacks_covariance = False
