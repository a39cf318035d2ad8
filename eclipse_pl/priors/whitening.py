"""Whitening: a linear map after which embeddings vary equally in all directions, and its inverse."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

FLOOR = 1e-6
"""Least variance of a direction, as a fraction of the largest. Few embeddings leave some directions without variance."""


class Whitening:
    """ZCA of image embeddings (Bell and Sejnowski 1997).

    The variances of a CLIP's embeddings differ by direction (the world's from 0.003 to 101), and gradient descent is slow
    where the input hardly varies.

    Args:
        mean: Mean embedding.
        covariance: Covariance of the embeddings. Variances below `FLOOR` times the largest are set to that.
    """

    def __init__(self, mean: Float[Tensor, " dim"], covariance: Float[Tensor, "dim dim"]) -> None:
        self.mean = mean.double()
        variances, directions = torch.linalg.eigh(covariance.double())
        variances = variances.clamp_min(FLOOR * variances.max())
        self.matrix = directions * variances.rsqrt() @ directions.T
        self.inverse = directions * variances.sqrt() @ directions.T

    @classmethod
    def of(cls, embeds: Float[Tensor, "pairs dim"]) -> Whitening:
        """The whitening of these embeddings."""
        return cls(embeds.double().mean(0), torch.cov(embeds.double().T))

    def __call__(self, embeds: Float[Tensor, "pairs dim"]) -> Float[Tensor, "pairs dim"]:
        return ((embeds.double() - self.mean) @ self.matrix).to(embeds.dtype)

    @torch.no_grad()
    def fold_into(self, layers: Iterable[nn.Linear]) -> None:
        """Change layers for whitened embeddings into layers for plain embeddings."""
        for layer in layers:
            weight = layer.weight.double() @ self.matrix
            layer.bias.sub_((weight @ self.mean).to(layer.bias.dtype))
            layer.weight.copy_(weight)
