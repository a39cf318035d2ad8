"""Priors under autocast in bfloat16, whose matrix products have 8 bits, against float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from eclipse_pl.embedding import EmbeddingBatch
from eclipse_pl.priors import Prior
from tests.helpers.every_prior import batch_of, build, cases


@pytest.mark.parametrize(("kind", "options"), cases(trained=True))
def test_gradients_in_bfloat16(kind: type[Prior], options: dict[str, Any]) -> None:
    prior, batch = build(kind, options), batch_of([3, 9, 2, 16, 5, 4] * 4)
    exact, narrow = (gradient(prior, batch, enabled) for enabled in (False, True))
    assert 1e-4 < (narrow - exact).norm() / exact.norm() < 0.03


def gradient(prior: Prior, batch: EmbeddingBatch, autocast: bool) -> torch.Tensor:
    """All gradients as one vector. What LoRA leaves as it is has none."""
    torch.manual_seed(5)
    prior.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        prior.losses(batch)["total"].backward()
    gradients = [parameter.grad for parameter in prior.parameters() if parameter.requires_grad]
    assert all(one is not None for one in gradients)
    return torch.cat([one.flatten() for one in gradients if one is not None])
