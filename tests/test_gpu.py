"""What only a CUDA device can show: `make gpu` runs these."""

from __future__ import annotations

import copy

import pytest
import torch

from eclipse_pl.embedding import EmbeddingBatch
from eclipse_pl.priors import DiffusionPrior, EclipsePrior, Prior
from eclipse_pl.world.encoder import WorldEncoder
from tests.test_eclipse import tiny_batch, tiny_space

pytestmark = pytest.mark.gpu

SIZES = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8}


@pytest.fixture(autouse=True)
def gpu() -> None:
    if not torch.cuda.is_available():
        pytest.fail("torch finds no GPU here")


def step(prior: Prior, batch: EmbeddingBatch) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Losses of one step of AdamW, and the gradients behind it, on the CPU."""
    optimizer = torch.optim.AdamW(prior.parameters(), lr=1.0e-3)
    losses = prior.losses(batch)
    losses["total"].backward()
    optimizer.step()
    gradients = {name: each.grad.cpu() for name, each in prior.named_parameters() if each.grad is not None}
    assert all(parameter.isfinite().all() for parameter in prior.parameters())
    return {name: loss.detach().cpu() for name, loss in losses.items()}, gradients


def test_a_training_step_is_the_same_on_cpu_and_gpu() -> None:
    torch.manual_seed(0)
    here: Prior = EclipsePrior(tiny_space(), noise="zero", **SIZES)
    there = copy.deepcopy(here).cuda()
    batch = tiny_batch()
    losses, gradients = step(here, batch)
    on_gpu, their_gradients = step(there, batch.to("cuda"))
    for name, loss in losses.items():
        torch.testing.assert_close(on_gpu[name], loss, rtol=1e-4, atol=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(their_gradients[name], gradient, rtol=1e-3, atol=1e-5)


def test_a_sample_is_the_same_on_cpu_and_gpu() -> None:
    torch.manual_seed(0)
    prior = DiffusionPrior(tiny_space(), **SIZES).eval()
    text = tiny_batch().text
    generators = [[torch.Generator().manual_seed(seed) for seed in range(6)] for _ in range(2)]
    here = prior.sample(text, generators[0])
    there = prior.cuda().sample(text.to("cuda"), generators[1])
    torch.testing.assert_close(there.cpu(), here, rtol=1e-3, atol=1e-3)


def test_an_encoder_is_on_the_gpu_of_its_process() -> None:
    encoder = WorldEncoder(device="auto")
    torch.cuda.set_device(torch.cuda.device_count() - 1)  # as a rank is given its own, after the config was built
    try:
        text = encoder.encode_text(["a red star"])
        assert text.text_embed.device.index == torch.cuda.current_device()
    finally:
        torch.cuda.set_device(0)
