"""The energy score: proper, unbiased, and in DirectPrior with several samples from one reading of the caption."""

from __future__ import annotations

import math
from typing import Any

import jaxtyping
import pytest
import torch
from torch import Tensor

from eclipse_pl.losses import LEAST_SQUARE, contrastive_loss, cosine_loss, energy_score, projection_loss
from eclipse_pl.priors import EclipsePrior, MLPPrior
from tests.test_eclipse import DIM, tiny_batch, tiny_prior, tiny_space
from tests.test_network import RAGGED, captions, network


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def written_out(samples: Tensor, truth: Tensor, beta: float, reduction: str) -> Tensor:
    """Gneiting & Raftery's Eq. 22, term by term."""
    n, pairs, dim = samples.shape
    scale = dim if reduction == "mean" else 1

    def distance(one: Tensor, other: Tensor) -> Tensor:
        return (sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) / scale + LEAST_SQUARE) ** (beta / 2)

    total = torch.zeros(())
    for row in range(pairs):
        total = total + sum(distance(samples[i, row], truth[row]) for i in range(n)) / n
        between = [distance(samples[i, row], samples[j, row]) for i in range(n) for j in range(n) if i != j]
        total = total - sum(between) / (2 * n * (n - 1))
    return total / pairs


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("n", "beta"), [(2, 1.0), (4, 0.5), (3, 1.9)])
def test_score_and_gradient_are_those_of_the_formula(n: int, beta: float, reduction: Any) -> None:
    torch.manual_seed(0)
    samples, truth = torch.randn(n, 3, 5, requires_grad=True), torch.randn(3, 5)
    score, expected = energy_score(samples, truth, beta, reduction), written_out(samples, truth, beta, reduction)
    torch.testing.assert_close(score, expected)
    (ours,), (reference,) = torch.autograd.grad(score, samples), torch.autograd.grad(expected, samples)
    torch.testing.assert_close(ours, reference)


def test_the_true_distribution_has_the_least_score() -> None:
    """Samples N(m, s^2) for images N(0, 1): the score is least at m = 0 and s = 1, and there it is 1 / sqrt(pi)."""
    torch.manual_seed(0)
    truth, drawn = torch.randn(200_000, 1), torch.randn(2, 200_000, 1)
    scores = {
        (mean, spread): float(energy_score(mean + spread * drawn, truth))
        for mean in (-0.4, 0.0, 0.4) for spread in (0.5, 0.8, 1.0, 1.25, 1.6)
    }  # fmt: skip
    assert min(scores, key=lambda key: scores[key]) == (0.0, 1.0)
    assert scores[0.0, 1.0] == pytest.approx(1 / math.sqrt(math.pi), abs=5e-3)
    mean_only = float(energy_score(torch.zeros(2, 200_000, 1), truth))
    assert mean_only > scores[0.0, 1.0] + 0.1, "a prediction of the mean, which the squared error prefers, scores worse"


def test_two_samples_estimate_what_many_do() -> None:
    torch.manual_seed(0)
    truth, drawn = torch.randn(40_000, 2), 1.3 * torch.randn(8, 40_000, 2)
    assert float(energy_score(drawn[:2], truth)) == pytest.approx(float(energy_score(drawn, truth)), abs=1e-2)


def test_distances_are_computed_in_float32() -> None:
    torch.manual_seed(0)
    samples, truth = torch.randn(2, 8, 64).bfloat16(), torch.randn(8, 64).bfloat16()
    for loss, narrow in ((energy_score, samples), (cosine_loss, samples[0])):
        found = loss(narrow, truth)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, loss(narrow.float(), truth.float()), atol=0, rtol=0)


def test_equal_samples_have_a_finite_gradient() -> None:
    samples = torch.ones(2, 3, 4, requires_grad=True)
    energy_score(samples, torch.ones(3, 4)).backward()
    assert samples.grad is not None and samples.grad.isfinite().all()


def test_cosine_ignores_the_norm() -> None:
    one, other = torch.randn(2, 4, 6)
    expected = 1 - torch.nn.functional.cosine_similarity(3 * one, other).mean()
    torch.testing.assert_close(cosine_loss(one, other), expected)


# several samples from one reading of the caption


@pytest.mark.parametrize("lengths", [RAGGED, [0, 3], [5]], ids=str)
def test_draws_are_forward_passes_with_their_gradients(lengths: list[int]) -> None:
    built, text = network(), captions(lengths, 24)
    noise = torch.randn(3, len(lengths), 24)
    inputs = [*built.parameters(), noise.requires_grad_(), text.text_embed.requires_grad_(), text.text_states.requires_grad_()]
    draws, apart = built.draws(noise, text), torch.stack([built(one, text) for one in noise])
    torch.testing.assert_close(draws, apart, atol=1e-5, rtol=1e-5)
    weight = torch.randn(draws.shape)
    ours, reference = (torch.autograd.grad((way * weight).sum(), inputs) for way in (draws, apart))
    for one, other in zip(ours, reference, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    "options", [{"standardise": "diagonal"}, {"beta": 0.5}, {"reduction": "sum"}, {"contrastive_weight": 0.0}], ids=str
)
def test_total_is_the_score_and_the_mean_contrastive_term(options: dict[str, Any]) -> None:
    prior, batch = tiny_prior(projection="energy", samples=3, temperature=0.1, **options), tiny_batch()
    torch.manual_seed(7)
    losses = prior.losses(batch)
    torch.manual_seed(7)
    predictions = torch.stack([prior.network(torch.randn(6, DIM), batch.text) for _ in range(3)])
    expected = energy_score(predictions, prior.network.standardise(batch.image_embed), prior.beta, prior.reduction)
    terms = [contrastive_loss(prior.network.raw(one), batch.text.text_embed, 0.1) for one in predictions]
    torch.testing.assert_close(losses["projection"], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(losses["contrastive"], torch.stack(terms).mean(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(losses["total"], losses["projection"] + prior.contrastive_weight * losses["contrastive"])
    losses["total"].backward()
    assert all(parameter.grad is not None for parameter in prior.parameters())


def test_more_samples_of_the_squared_error_are_its_mean() -> None:
    prior, batch = tiny_prior(samples=2), tiny_batch()
    torch.manual_seed(7)
    losses = prior.losses(batch)
    torch.manual_seed(7)
    apart = [projection_loss(prior.network(torch.randn(6, DIM), batch.text), batch.image_embed) for _ in range(2)]
    torch.testing.assert_close(losses["projection"], torch.stack(apart).mean())


def test_cosine_projection() -> None:
    prior, batch = tiny_prior(projection="cosine", noise="zero", standardise="diagonal"), tiny_batch()
    expected = cosine_loss(prior.sample(batch.text), batch.image_embed)
    torch.testing.assert_close(prior.losses(batch)["projection"].detach(), expected)


def test_any_network_can_be_trained_by_it() -> None:
    prior = MLPPrior(tiny_space(), num_layers=1, width=8, projection="energy", samples=2)
    assert prior.losses(tiny_batch())["total"].isfinite()


@pytest.mark.long
def test_it_learns_to_sample_where_the_squared_error_averages() -> None:
    """Half of the images of one caption are at -1, half at 1. One forward pass, two losses."""
    batch, spread = tiny_batch(1), {}
    images = torch.tensor([[-1.0], [1.0]]).repeat(32, DIM)
    batch = type(batch)(batch.text.select([0] * 64), images, torch.arange(64))
    for projection, samples in (("squared", 1), ("energy", 2)):
        prior = tiny_prior(projection=projection, samples=samples, contrastive_weight=0.0)
        optimizer = torch.optim.Adam(prior.parameters(), 3e-3)
        for _ in range(250):
            optimizer.zero_grad()
            prior.losses(batch)["total"].backward()
            optimizer.step()
        spread[projection] = float(prior.sample(batch.text, torch.Generator().manual_seed(0)).mean(1).std())
    assert spread["squared"] < 0.3 and spread["energy"] > 0.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"projection": "energy"}, "samples is 1; it must be 2 or more: the energy score compares"),
        ({"samples": 0}, "samples is 0; it must be 1 or more"),
        ({"samples": 2.5}, "samples is 2.5; it must be a whole number, 1 or more"),
        ({"projection": "energy", "samples": 2, "noise": "zero"}, "samples is 2, but noise 'zero' makes all samples"),
        ({"projection": "energy", "samples": 2, "beta": 2.0}, "beta is 2.0; it must be above 0 and below 2"),
        ({"beta": 0.5}, "beta is 0.5, but only the energy score has it"),
        ({"projection": "cosine", "reduction": "sum"}, "projection 'cosine' reduces no squares"),
        ({"projection": "huber"}, "projection is 'huber'; choose one of 'squared', 'energy', 'cosine'"),
    ],
)
def test_bad_choices(options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # beartype would be there first
    with pytest.raises(ValueError, match=message):
        EclipsePrior(tiny_space(), **{"num_layers": 1, "attention_head_dim": 1, **options})
