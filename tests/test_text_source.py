"""A flow from the caption to the image: its source, its loss, its guidance, and what does not go together."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from eclipse_pl.embedding import EmbeddingBatch, TextCondition
from eclipse_pl.priors import FlowPrior
from eclipse_pl.priors.saved import require_same_rule
from eclipse_pl.priors.text_source import gaussian_sample, kl_to_standard_normal
from eclipse_pl.priors.write_released import write_released
from tests.helpers.every_prior import DIM, SIZES, batch_of, build, space

TEXT = SIZES | {"source": "text", "source_layers": 1, "steps": 4}


def made(**options: Any) -> FlowPrior:
    prior = build(FlowPrior, TEXT | {"guidance_scale": 1.0} | options)
    assert isinstance(prior, FlowPrior)
    return prior


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in range(count)]


def test_the_divergence_is_that_of_torch() -> None:
    mean, log_variance = torch.randn(5, DIM), torch.randn(5, DIM)
    theirs = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), theirs)
    samples = gaussian_sample(mean[:1].expand(20_000, -1), log_variance[:1].expand(20_000, -1), torch.randn(20_000, DIM))
    torch.testing.assert_close(samples.mean(0), mean[0], atol=0.1, rtol=0)
    torch.testing.assert_close(samples.var(0).log(), log_variance[0], atol=0.1, rtol=0)


def test_losses_are_the_error_of_the_velocity_and_the_divergence() -> None:
    prior, batch = made(condition_dropout=0.0, kl_weight=0.5), batch_of([3, 5, 2])
    assert prior.text_source is not None
    torch.manual_seed(1)
    found = prior.losses(batch)
    torch.manual_seed(1)
    sigma, noise = torch.rand(3), torch.randn(3, DIM)
    embed = prior.network.standardise(batch.image_embed)
    mean, log_variance = prior.text_source(batch.text)
    source = mean + (log_variance / 2).exp() * noise
    indicated = TextCondition.pooled(prior.text_source.indicator[1].expand(3, -1))
    output = prior.network((1 - sigma[:, None]) * embed + sigma[:, None] * source, indicated, 1000 * sigma)
    flow, kl = (output - (source - embed)).square().mean(), kl_to_standard_normal(mean, log_variance)
    torch.testing.assert_close(found, {"flow": flow, "kl": kl, "total": flow + 0.5 * kl})
    found["total"].backward()
    without = [name for name, parameter in prior.named_parameters() if parameter.grad is None]
    assert not without, "DistributedDataParallel refuses parameters without a gradient"


def test_the_network_reads_the_indicator_and_no_caption(monkeypatch: pytest.MonkeyPatch) -> None:
    prior, batch = made(condition_dropout=0.5), batch_of([3] * 400)
    assert prior.text_source is not None
    read: list[TextCondition] = []
    forward = prior.network.forward
    monkeypatch.setattr(prior.network, "forward", lambda noisy, text, time: read.append(text) or forward(noisy, text, time))
    prior.losses(batch)
    assert len(read[0].text_states) == 0
    captioned = (read[0].text_embed == prior.text_source.indicator[1]).all(1)
    assert ((read[0].text_embed == prior.text_source.indicator[0]).all(1) == ~captioned).all()
    assert 0.4 < captioned.float().mean() < 0.6
    prior.eval().losses(batch)
    assert (read[1].text_embed == prior.text_source.indicator[1]).all(), "evaluation drops nothing"


def test_without_the_caption_it_leads_to_the_image_of_another_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    prior, batch = made(condition_dropout=0.5), replace(batch_of([3] * 40), image_embed=torch.randn(40, DIM))
    assert prior.text_source is not None
    read: list[TextCondition] = []
    targets: list[torch.Tensor] = []
    forward, error = prior.network.forward, prior.path.squared_error
    monkeypatch.setattr(prior.network, "forward", lambda noisy, text, time: read.append(text) or forward(noisy, text, time))
    monkeypatch.setattr(prior.path, "squared_error", lambda said, *rest: targets.append(rest[0]) or error(said, *rest))
    prior.losses(batch)
    captioned = (read[0].text_embed == prior.text_source.indicator[1]).all(1)
    apart = torch.cdist(targets[0], prior.network.standardise(batch.image_embed), compute_mode="donot_use_mm_for_euclid_dist")
    assert torch.equal(apart.diagonal() == 0, captioned) and 0 < captioned.sum() < 40
    assert (apart.amin(1) == 0).all(), "it is an image of the batch"


def test_it_needs_no_encoded_empty_prompt() -> None:
    """As a set of imported embeddings has none."""
    bare = replace(space(), empty_states=None, empty_embed=None)
    prior = FlowPrior(bare, **TEXT, guidance_scale=2.0, condition_dropout=0.5)
    batch = batch_of([3, 5])
    assert prior.losses(batch)["total"].isfinite()
    prior.sample_with(2, 3.0)
    assert prior.eval().sample(batch.text).isfinite().all()


def test_one_pair_cannot_train_guidance() -> None:
    batch = batch_of([3])
    with pytest.raises(ValueError, match="a batch of 1 pair has no image of another pair, which guidance needs"):
        made(condition_dropout=0.1).losses(batch)
    assert made(condition_dropout=0.0).losses(batch)["total"].isfinite()
    assert made(condition_dropout=0.1).eval().losses(batch)["total"].isfinite()


def test_a_sample_begins_at_the_caption_and_guidance_leaves_out_the_indicator() -> None:
    prior, text = made(steps=1, guidance_scale=2.0).eval(), batch_of([3, 5]).text
    assert prior.text_source is not None
    with torch.no_grad():
        source = gaussian_sample(
            *prior.text_source(text), torch.stack([torch.randn(DIM, generator=one) for one in generators(2)])
        )
        any_image, image = (
            prior.network(source, TextCondition.pooled(row.expand(2, -1)), torch.full((2,), 1000.0))
            for row in prior.text_source.indicator
        )
        expected = prior.network.raw(source - (any_image + 2 * (image - any_image)))
    torch.testing.assert_close(prior.sample(text, generators(2)), expected, atol=1e-5, rtol=1e-5)
    alone = prior.sample(text.select([1]), [generators(2)[1]])
    torch.testing.assert_close(prior.sample(text, generators(2))[1:], alone, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(prior.sample(text, generators(2)), prior.sample(text, generators(3)[1:]))


@pytest.mark.long
def test_it_learns_what_the_caption_says() -> None:
    """Images are a map of their caption plus noise: predictions correlate with the caption's part."""
    torch.manual_seed(0)
    prior = made(condition_dropout=0.1).train()
    embeds, turn = torch.randn(256, DIM), torch.linalg.qr(torch.randn(DIM, DIM))[0]
    images = embeds @ turn + 0.3 * torch.randn(256, DIM)
    images = prior.network.raw(images)
    optimizer = torch.optim.AdamW(prior.parameters(), lr=3e-3)
    for step in range(110):
        rows = torch.arange(64) + 64 * (step % 4)
        text = TextCondition(embeds[rows], embeds[rows], torch.ones(64, dtype=torch.int64), (1, 1))
        loss = prior.losses(EmbeddingBatch(text, images[rows], rows))["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    prior.eval()
    text = TextCondition(embeds[:64], embeds[:64], torch.ones(64, dtype=torch.int64), (1, 1))
    found = prior.network.standardise(prior.sample(text, generators(64)))
    cosine = torch.nn.functional.cosine_similarity(found, embeds[:64] @ turn)
    assert cosine.mean() > 0.4, "of other captions it is near 0"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kl_weight": 0.1}, "kl_weight is 0.1, but source is 'noise', which has none"),
        ({"source_layers": 2}, "source_layers is 2, but source is 'noise'"),
        ({"source": "text", "source_layers": 0}, "source_layers is 0; it must be 1 or more"),
        ({"source": "text", "kl_weight": -1.0}, "kl_weight is -1.0; it must be 0 or more"),
        ({"source": "text", "sampler": "stochastic"}, "adds Gaussian noise, but source is 'text'. Choose euler or heun"),
        ({"source": "text", "schedule": "cosine", "prediction": "x0"}, "coordinates of a diffusion prior"),
    ],
)
def test_bad_choices(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        FlowPrior(space(), **SIZES, **options)


def test_what_diffusers_and_another_source_cannot_hold(tmp_path: Path) -> None:
    prior = made()
    with pytest.raises(ValueError, match="begins at the caption"):
        write_released(prior, tmp_path / "exported")
    with pytest.raises(ValueError, match="Choose euler or heun"):
        prior.sample_with(sampler="stochastic")
    with pytest.raises(ValueError, match="trained with source text, and the prior has source noise"):
        require_same_rule(build(FlowPrior, SIZES), prior.trained_for, "The weights")
