"""What only a CUDA device can show of priors: `make gpu` runs these."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from eclipse_pl.embedding import EmbeddingBatch
from eclipse_pl.priors import Prior
from eclipse_pl.world.encoder import WorldEncoder
from tests.helpers.card import DrawnOnTheCpu, assert_near, assert_same_gradients, card
from tests.helpers.every_prior import batch_of, build, cases

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).parent.parent
LENGTHS = [5, 2, 9, 16, 7, 4]


@pytest.fixture
def device() -> torch.device:
    return card()


def step(prior: Prior, batch: EmbeddingBatch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The losses of one step of AdamW and the gradients behind it, by name."""
    torch.manual_seed(1)
    with DrawnOnTheCpu():
        losses = prior.losses(batch)
    if not losses["total"].requires_grad:
        prior.end_of_epoch()
        return losses, {}
    optimizer = torch.optim.AdamW([each for each in prior.parameters() if each.requires_grad], lr=1.0e-3, fused=True)
    losses["total"].backward()
    optimizer.step()
    assert all(parameter.isfinite().all() for parameter in prior.parameters())
    return losses, {name: each.grad for name, each in prior.named_parameters() if each.grad is not None}


def samples(prior: Prior, batch: EmbeddingBatch) -> Tensor:
    return prior.eval().sample(batch.text, [torch.Generator().manual_seed(seed) for seed in range(len(batch))])


@pytest.mark.parametrize(("kind", "options"), cases())
def test_a_step_and_a_sample_are_those_of_the_cpu(kind: type[Prior], options: dict[str, Any], device: torch.device) -> None:
    """In float32; of losses and gradients 1e-3 of their norm, and of samples 5e-3, since a sampler of many steps adds up."""
    here, batch = build(kind, options), batch_of(LENGTHS)
    there = copy.deepcopy(here).to(device)
    losses, gradients = step(here, batch)
    their_losses, their_gradients = step(there, batch.to(device))
    assert all(loss.device.type == device.type for loss in their_losses.values())
    for name, loss in losses.items():
        assert_near(their_losses[name], loss, 1e-3, floor=1e-2, name=name)
    assert_same_gradients(their_gradients, gradients, 1e-3)
    there.load_state_dict(here.state_dict())  # AdamW turns rounding in gradients that are zero into whole steps
    assert_near(samples(there, batch.to(device)), samples(here, batch), 5e-3, name="sample")


@pytest.mark.parametrize(("kind", "options"), cases(trained=True))
def test_bfloat16_by_autocast_is_float32_but_for_rounding(
    kind: type[Prior], options: dict[str, Any], device: torch.device
) -> None:
    """A number has 8 bits: of losses 2 %, of the gradients as one vector 10 % of their norm."""
    prior, batch = build(kind, options).to(device), batch_of(LENGTHS).to(device)
    exact = copy.deepcopy(prior)
    losses, gradients = step(exact, batch)
    with torch.autocast(device.type, torch.bfloat16):
        narrow_losses, narrow_gradients = step(prior, batch)
    assert all(loss.dtype == torch.float32 for loss in narrow_losses.values())
    for name, loss in losses.items():
        assert_near(narrow_losses[name], loss, 0.02, floor=1.0, name=name)
    whole, narrow = (torch.cat([each[name].flatten().cpu() for name in gradients]) for each in (gradients, narrow_gradients))
    assert_near(narrow, whole, 0.1, name="gradients")


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("EclipsePrior", "default"), ("EclipsePrior", "reduce-overhead"), ("DiffusionPrior", "default")],
    ids=["eclipse", "eclipse by CUDA graphs", "diffusion"],
)
def test_a_compiled_network_is_the_eager_one(kind: str, mode: str, device: torch.device) -> None:
    """Of losses 1e-3 of their norm and of gradients 2e-3, in float32."""
    words = [sys.executable, "-m", "tests.helpers.compiled_network", kind, mode, device.type]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("equal\n"), done.stderr


def test_an_encoder_is_on_the_gpu_of_its_process(device: torch.device) -> None:
    encoder = WorldEncoder(device="auto")
    if device.type == "cpu":
        pytest.skip("on the CPU there are no numbers of devices")
    torch.cuda.set_device(torch.cuda.device_count() - 1)  # as a rank is given its own, after the config was built
    try:
        text = encoder.encode_text(["a red star"])
        assert text.text_embed.device.index == torch.cuda.current_device()
    finally:
        torch.cuda.set_device(0)
