"""Whitened embeddings vary equally in all directions, and a layer trained on them can be made to take plain ones."""

from __future__ import annotations

import torch
from torch import nn

from eclipse_pl.priors.whitening import Whitening


def stretched(pairs: int, dim: int = 16) -> torch.Tensor:
    """Embeddings whose variance falls by five orders of magnitude, around a mean far from zero."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(dim, dim, generator=generator))[0]
    return torch.randn(pairs, dim, generator=generator) @ torch.diag(torch.logspace(1, -1.5, dim)) @ basis + 3


def test_whitened_embeddings_vary_equally_in_all_directions() -> None:
    embeds = stretched(2000)
    white = Whitening.of(embeds)(embeds)
    assert white.dtype == embeds.dtype
    torch.testing.assert_close(white.mean(0), torch.zeros(16), atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.cov(white.T), torch.eye(16), atol=1e-3, rtol=0)


def test_a_folded_layer_takes_plain_embeddings() -> None:
    embeds = stretched(500)
    whitening, layer = Whitening.of(embeds), nn.Linear(16, 8)
    expected = layer(whitening(embeds))
    assert not torch.allclose(layer(embeds), expected, atol=0.1)
    whitening.fold_into([layer])
    torch.testing.assert_close(layer(embeds), expected, atol=1e-3, rtol=0)


def test_fewer_embeddings_than_dimensions_do_not_blow_up() -> None:
    embeds = stretched(5)
    assert Whitening.of(embeds)(embeds).abs().max() < 10


def test_the_floor_is_a_millionth_of_the_largest_variance() -> None:
    for scale in (1.0, 1e4):
        whitening = Whitening(torch.zeros(3), torch.diag(scale * torch.tensor([4.0, 1e-3, 0.0])))
        deviations = (scale * torch.tensor([4.0, 1e-3, 4e-6]).double()).sqrt()
        torch.testing.assert_close(whitening.inverse, torch.diag(deviations), atol=1e-9, rtol=1e-5)
        torch.testing.assert_close(whitening.matrix, torch.diag(1 / deviations), atol=1e-9, rtol=1e-5)
