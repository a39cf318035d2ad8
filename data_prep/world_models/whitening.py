"""Whitening of embeddings for training, which is folded into the network's weights afterwards."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

Embeds = Float[Tensor, "pairs dim"]


class Whitening:
    """ZCA of image embeddings (Bell and Sejnowski 1997).

    The variances of a CLIP's embeddings differ by direction (the world's from 0.003 to 101), and gradient descent is slow
    where the input hardly varies.

    Args:
        embeds: Embeddings that give mean and covariance.
    """

    def __init__(self, embeds: Embeds) -> None:
        self.mean = embeds.double().mean(0)
        variances, directions = torch.linalg.eigh(torch.cov(embeds.double().T))
        variances = variances.clamp_min(1e-6 * variances.max())  # few embeddings leave some directions without variance
        self.matrix = directions * variances.rsqrt() @ directions.T

    def __call__(self, embeds: Embeds) -> Embeds:
        return ((embeds.double() - self.mean) @ self.matrix).to(embeds.dtype)

    @torch.no_grad()
    def fold_into(self, layers: Iterable[nn.Linear]) -> None:
        """Change layers for whitened embeddings into layers for plain embeddings."""
        for layer in layers:
            weight = layer.weight.double() @ self.matrix
            layer.bias.sub_((weight @ self.mean).to(layer.bias.dtype))
            layer.weight.copy_(weight)
