"""MLPPrior: ECLIPSE's training rule around a network that reads the pooled embedding alone."""

from __future__ import annotations

import jaxtyping
import pytest
import torch

from eclipse_pl.losses import contrastive_loss, projection_loss
from eclipse_pl.priors import MLPPrior, PriorNetwork
from tests.test_eclipse import tiny_batch, tiny_space


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_losses_are_those_of_eclipse() -> None:
    torch.manual_seed(0)
    prior, batch = MLPPrior(tiny_space(), num_layers=2, width=8, noise="zero"), tiny_batch()
    losses, prediction = prior.losses(batch), prior.sample(batch.text)
    torch.testing.assert_close(losses["projection"].detach(), projection_loss(prediction, batch.image_embed))
    torch.testing.assert_close(losses["contrastive"].detach(), contrastive_loss(prediction, batch.text.text_embed, 0.01))
    losses["total"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in prior.parameters())


def test_tokens_are_not_read() -> None:
    prior, batch = MLPPrior(tiny_space(), num_layers=1, width=8, noise="zero"), tiny_batch()
    text = batch.text.replaced(torch.zeros(6, dtype=torch.bool), batch.text.select([0]))
    text.text_states.add_(1)
    assert torch.equal(prior.sample(text), prior.sample(batch.text))


def test_by_default_it_is_as_large_as_eclipses_network() -> None:
    space = tiny_space()
    with torch.device("meta"):
        sizes = [
            sum(p.numel() for p in network.parameters())
            for network in (MLPPrior(space).network, PriorNetwork(space.dim, space.text_width))
        ]
    assert abs(sizes[0] / sizes[1] - 1) < 0.02


@pytest.mark.parametrize("size", ["num_layers", "width"])
def test_sizes_are_at_least_one(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=f"{size} is 0"):
        MLPPrior(tiny_space(), **{size: 0})
