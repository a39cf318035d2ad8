"""The host never waits for the GPU inside the loss or the sampling of a prior, checked without a GPU."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException

from eclipse_pl import lit_prior
from eclipse_pl.embedding import EmbeddingBatch, TextCondition
from eclipse_pl.lit_prior import LitPrior, no_optimizer
from eclipse_pl.priors import EclipsePrior, Prior
from tests.helpers.every_prior import DIM, SIZES, batch_of, build, cases
from tests.helpers.fake_cuda import FakeCuda, NoCopies

LENGTHS = [3, 9, 2, 16, 5, 4]


@pytest.mark.parametrize(("kind", "options"), cases())
def test_losses_and_samples(kind: type[Prior], options: dict[str, Any]) -> None:
    prior, batch = build(kind, options), batch_of(LENGTHS)
    with FakeCuda() as gpu:
        gpu.moved(prior)
        batch = gpu.on_host(batch).to("cuda")
        with NoCopies():
            losses = prior.losses(batch)
            sample = prior.eval().sample(batch.text)
            prior.losses(batch)
        assert all(loss.device.type == "cuda" and loss.shape == () for loss in losses.values())
        assert sample.device.type == "cuda" and sample.shape == (len(LENGTHS), DIM)
        generators = [torch.Generator().manual_seed(seed) for seed in range(len(LENGTHS))]
        assert prior.sample(batch.text, generators).device.type == "cuda"


@pytest.mark.parametrize(("kind", "options"), cases())
def test_training_step(kind: type[Prior], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a step that is not logged, in the middle of an epoch."""
    monkeypatch.setattr(lit_prior, "step_is_logged", lambda trainer: False)
    prior, batch = build(kind, options), batch_of(LENGTHS)
    module = LitPrior(prior, no_optimizer)
    place = {"current_epoch": 1, "global_step": 5, "global_rank": 0}
    module._trainer = SimpleNamespace(**place, accumulate_grad_batches=1, is_last_batch=False, should_stop=False)
    module.seed = 0
    with FakeCuda() as gpu:
        gpu.moved(module)
        batch = gpu.on_host(batch).to("cuda")
        with NoCopies():
            loss = module.training_step(batch, 5)
        assert loss is None or loss.device.type == "cuda"
        with pytest.raises(DataDependentOutputException):  # the look at the losses waits
            module.require_finite()


def test_without_bounds_the_lengths_are_read() -> None:
    """So the other tests can fail."""
    prior, batch = build(EclipsePrior, SIZES), batch_of(LENGTHS)
    with FakeCuda() as gpu:
        gpu.moved(prior)
        batch = gpu.on_host(batch).to("cuda")
        with pytest.raises(DataDependentOutputException):
            prior.losses(replace(batch, text=replace(batch.text, bounds=None)))


def test_no_copy_is_overlooked() -> None:
    with FakeCuda(), NoCopies():
        one = torch.zeros(3, device="cuda")
        with pytest.raises(AssertionError, match="a copy from cuda:0 to cpu"):
            one.cpu()
        with pytest.raises(AssertionError, match="a copy from cpu to cuda:0"):
            one.copy_(torch.zeros(3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_transfer(dtype: torch.dtype) -> None:
    batch = replace(batch_of(LENGTHS), negative_embed=torch.zeros(len(LENGTHS), DIM), captions=["a"] * len(LENGTHS))
    batch = replace(batch, text=batch.text.to("cpu", dtype), image_embed=batch.image_embed.to(dtype))
    with FakeCuda() as gpu:
        there: EmbeddingBatch = gpu.on_host(batch).to("cuda", non_blocking=True)
    text: TextCondition = there.text
    tensors = [
        there.image_embed,
        there.index,
        there.group,
        there.negative_embed,
        there.negative_text_embed,
        text.text_embed,
        text.text_states,
        text.lengths,
    ]
    assert all(tensor is not None and tensor.device.type == "cuda" for tensor in tensors)
    assert text.bounds == (2, 16) and there.captions == batch.captions
    assert there.image_embed.dtype == text.text_states.dtype == torch.float32
