"""Embeddings of equal variance in all directions, for a network that learns from them; undone in its weights afterwards."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

Embeds = Float[Tensor, "pairs dim"]


class Whitening:
    """ZCA of image embeddings (Bell and Sejnowski 1997).

    A CLIP's embeddings vary far more along some directions than along others (the world's: variances from 101 down to 0.003),
    and what the small ones say, a network finds late: gradient descent is slow where the input hardly varies.

    Args:
        embeds: whose mean and covariance it takes.
    """

    def __init__(self, embeds: Embeds) -> None:
        self.mean = embeds.double().mean(0)
        variances, directions = torch.linalg.eigh(torch.cov(embeds.double().T))
        variances = variances.clamp_min(1e-6 * variances.max())  # fewer embeddings than dimensions leave some without any
        self.matrix = directions * variances.rsqrt() @ directions.T

    def __call__(self, embeds: Embeds) -> Embeds:
        return ((embeds.double() - self.mean) @ self.matrix).to(embeds.dtype)

    @torch.no_grad()
    def fold_into(self, layers: Iterable[nn.Linear]) -> None:
        """Change layers that took whitened embeddings into ones that take the embeddings themselves."""
        for layer in layers:
            weight = layer.weight.double() @ self.matrix
            layer.bias.sub_((weight @ self.mean).to(layer.bias.dtype))
            layer.weight.copy_(weight)
