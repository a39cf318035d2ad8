"""EclipsePrior: its choices, its two terms, its determinism."""

from __future__ import annotations

import math
from dataclasses import replace

import jaxtyping
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from eclipse_pl.embedding import ClipSpace, EmbeddingBatch, TextCondition
from eclipse_pl.losses import contrastive_loss, projection_loss
from eclipse_pl.priors import EclipsePrior, Prior, gaussian_noise

DIM = 12


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def tiny_space() -> ClipSpace:
    draw = torch.Generator().manual_seed(9)
    mean, std = torch.randn(DIM, generator=draw), torch.rand(DIM, generator=draw) + 0.5
    return ClipSpace("tiny", DIM, DIM, 8, "tiny", False, mean, std)


def tiny_prior(seed: int = 0, **kwargs: object) -> EclipsePrior:
    torch.manual_seed(seed)
    return EclipsePrior(tiny_space(), num_layers=2, num_attention_heads=2, attention_head_dim=8, **kwargs)  # type: ignore[arg-type]


def tiny_batch(pairs: int = 6, seed: int = 3) -> EmbeddingBatch:
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 9, (pairs,), generator=draw)
    states = torch.randn(int(lengths.sum()), DIM, generator=draw)
    text = TextCondition(torch.randn(pairs, DIM, generator=draw), states, lengths)
    return EmbeddingBatch(text, torch.randn(pairs, DIM, generator=draw), torch.arange(pairs))


def test_is_eclipses_size_by_default() -> None:
    with torch.device("meta"):
        prior = EclipsePrior(ClipSpace("L", 768, 768, 77, "L", False, torch.zeros(768), torch.ones(768)))
    assert sum(tensor.numel() for tensor in prior.network.state_dict().values()) == 33_143_040
    assert prior.contrastive_weight == 0.2


def test_one_relative_weight_is_the_same_experiment_in_another_scale() -> None:
    """Embeddings in units ten times as large: the weight grows with the squared error, by a hundred."""
    space = tiny_space()
    large = replace(space, image_mean=10 * space.image_mean, image_std=10 * space.image_std)
    variance = float(space.image_std.square().mean())
    small, big, standardised, summed = (
        EclipsePrior(one, 1, 1, 8, contrastive_weight=None, relative_weight=0.3, **more)
        for one, more in ((space, {}), (large, {}), (large, {"standardise": "diagonal"}), (space, {"reduction": "sum"}))
    )
    assert small.contrastive_weight == pytest.approx(0.3 * variance)
    assert big.contrastive_weight == pytest.approx(100 * small.contrastive_weight)
    assert standardised.contrastive_weight == pytest.approx(0.3), "standardised embeddings have a variance of 1"
    assert summed.contrastive_weight == pytest.approx(DIM * small.contrastive_weight)
    for prior in (small, big, standardised, summed):
        assert prior.relative_weight == pytest.approx(0.3)
    assert tiny_prior().relative_weight == pytest.approx(0.2 / variance) and tiny_prior().contrastive_weight == 0.2
    losses = small.losses(tiny_batch())
    torch.testing.assert_close(losses["total"], losses["projection"] + 0.3 * variance * losses["contrastive"])


@pytest.mark.parametrize(
    ("weights", "match"),
    [
        ({"relative_weight": 0.1}, r"contrastive_weight is 0\.2 and relative_weight is 0\.1: they state one weight"),
        ({"contrastive_weight": None}, "contrastive_weight is None and relative_weight is None: they state one weight"),
        ({"contrastive_weight": None, "relative_weight": -1.0}, r"relative_weight is -1\.0; it must be 0"),
        (
            {"contrastive_weight": None, "relative_weight": 0.1, "projection": "energy", "samples": 2},
            r"relative_weight is 0\.1, which is relative to a squared error, and projection is 'energy'",
        ),
    ],
)
def test_the_weight_is_stated_once(weights: dict[str, float | None], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        tiny_prior(**weights)


def test_no_weight_is_relative_to_images_that_are_all_equal() -> None:
    space = replace(tiny_space(), image_std=torch.zeros(DIM))
    with pytest.raises(ValueError, match=r"relative_weight is 0\.5, relative to the squared error .* that is 0: all image"):
        EclipsePrior(space, 1, 1, 8, contrastive_weight=None, relative_weight=0.5)
    assert EclipsePrior(space, 1, 1, 8).relative_weight is None


def test_total_is_equation_5() -> None:
    prior, batch = tiny_prior(noise="zero"), tiny_batch()
    losses = prior.losses(batch)
    prediction = prior.sample(batch.text)
    torch.testing.assert_close(losses["projection"].detach(), projection_loss(prediction, batch.image_embed))
    torch.testing.assert_close(losses["contrastive"].detach(), contrastive_loss(prediction, batch.text.text_embed, 0.01))
    torch.testing.assert_close(losses["total"], losses["projection"] + 0.2 * losses["contrastive"])


def test_projection_only_reports_the_contrastive_term_without_learning_from_it() -> None:
    both, alone, batch = tiny_prior(noise="zero"), tiny_prior(noise="zero", contrastive_weight=0.0), tiny_batch()
    losses, expected = alone.losses(batch), both.losses(batch)
    assert losses["contrastive"] == expected["contrastive"] and not losses["contrastive"].requires_grad
    assert losses["total"] is losses["projection"]
    losses["total"].backward()
    expected["projection"].backward()
    for one, other in zip(alone.parameters(), both.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("target", ["text", "image", "symmetric"])
def test_target(target: str) -> None:
    prior, batch = tiny_prior(noise="zero", target=target, temperature=0.1), tiny_batch()
    prediction, text, image = prior.sample(batch.text), batch.text.text_embed, batch.image_embed
    expected = {
        "text": contrastive_loss(prediction, text, 0.1),
        "image": contrastive_loss(prediction, image, 0.1),
        "symmetric": (contrastive_loss(prediction, text, 0.1) + contrastive_loss(text, prediction, 0.1)) / 2,
    }
    torch.testing.assert_close(prior.losses(batch)["contrastive"].detach(), expected[target])


def test_duplicate_captions_are_no_negatives_when_masked() -> None:
    batch = tiny_batch()
    twice = EmbeddingBatch(
        TextCondition.join([batch.text, batch.text]), batch.image_embed.repeat(2, 1), torch.arange(2 * len(batch))
    )
    once = tiny_prior(noise="zero").losses(batch)["contrastive"]
    # Unmasked, each caption has a second column as good as its own, and each negative is there twice.
    torch.testing.assert_close(tiny_prior(noise="zero").losses(twice)["contrastive"], once + math.log(2))
    prior = tiny_prior(noise="zero", mask_duplicates=True)
    cosines = F.normalize(prior.sample(batch.text), dim=1) @ F.normalize(batch.text.text_embed, dim=1).T
    logits = cosines / 0.01 + math.log(2) * (1 - torch.eye(len(batch)))
    expected = F.cross_entropy(logits, torch.arange(len(batch)))
    torch.testing.assert_close(prior.losses(twice)["contrastive"].detach(), expected)


def test_other_captions_of_an_image_are_no_negatives_when_masked() -> None:
    batch = replace(tiny_batch(), group=torch.tensor([7, 8, 7, *range(9, 6 + len(tiny_batch()))]))
    prior = tiny_prior(noise="zero", mask_duplicates=True, temperature=0.1)
    ignored = torch.zeros(len(batch), len(batch), dtype=torch.bool)
    ignored[0, 2] = ignored[2, 0] = True
    expected = contrastive_loss(prior.sample(batch.text), batch.text.text_embed, 0.1, ignored=ignored)
    torch.testing.assert_close(prior.losses(batch)["contrastive"].detach(), expected)
    assert prior.losses(replace(batch, group=None))["contrastive"].item() > expected.item()
    text = batch.text.text_embed.clone()
    text[5] = text[4]
    both = replace(batch, text=replace(batch.text, text_embed=text))
    ignored[4, 5] = ignored[5, 4] = True
    expected = contrastive_loss(prior.sample(both.text), text, 0.1, ignored=ignored)
    torch.testing.assert_close(prior.losses(both)["contrastive"].detach(), expected)


@pytest.mark.parametrize("target", ["text", "symmetric"])
def test_hard_negatives_are_the_negative_captions_of_the_batch(target: str) -> None:
    batch = tiny_batch()
    hard = torch.randn_like(batch.text.text_embed)
    hard[1] = math.nan
    prior = tiny_prior(noise="zero", hard_negatives=True, target=target, temperature=0.1)
    prediction, text = prior.sample(batch.text), batch.text.text_embed
    expected = contrastive_loss(prediction, text, 0.1, hard_negatives=hard)
    if target == "symmetric":
        expected = (expected + contrastive_loss(text, prediction, 0.1)) / 2
    found = prior.losses(replace(batch, negative_text_embed=hard))["contrastive"]
    torch.testing.assert_close(found.detach(), expected)
    with pytest.raises(ValueError, match=r"hard_negatives is True, but the training pairs have no negative captions\. Give"):
        prior.losses(batch)
    assert tiny_prior(hard_negatives=True, target=target, contrastive_weight=0.0).losses(batch)["contrastive"].isfinite()
    without = tiny_prior(noise="zero", target=target, temperature=0.1)
    torch.testing.assert_close(prior.eval().losses(batch), without.eval().losses(batch))
    assert found > without.losses(batch)["contrastive"]


def test_standardised_prior_still_returns_raw_embeddings() -> None:
    prior, batch = tiny_prior(noise="zero", standardise="diagonal"), tiny_batch()
    space, prediction = tiny_space(), prior.sample(batch.text)
    expected = ((prediction - batch.image_embed) / space.image_std).square().mean()
    torch.testing.assert_close(prior.losses(batch)["projection"].detach(), expected)
    raw = tiny_prior(noise="zero").sample(batch.text)
    torch.testing.assert_close(prediction, raw * space.image_std + space.image_mean)
    torch.testing.assert_close(
        prior.losses(batch)["contrastive"].detach(), contrastive_loss(prediction, batch.text.text_embed, 0.01)
    )


def test_learned_temperature_learns_and_stays_within_bounds() -> None:
    prior, batch = tiny_prior(learn_temperature=True, temperature=0.02), tiny_batch()
    assert prior.log_scale is not None
    prior.losses(batch)["total"].backward()
    assert prior.log_scale.grad is not None and prior.log_scale.grad != 0
    with torch.no_grad():
        prior.log_scale.fill_(7)
    prior.losses(batch)["total"].backward()
    assert prior.log_scale.item() == pytest.approx(math.log(100))
    assert prior.log_scale.grad != 0


@pytest.mark.parametrize("noise", ["zero", "learned"])
def test_prior_without_gaussian_noise_is_deterministic(noise: str) -> None:
    prior, batch = tiny_prior(noise=noise), tiny_batch()
    draws = torch.get_rng_state()
    torch.testing.assert_close(prior.sample(batch.text), prior.sample(batch.text), atol=0, rtol=0)
    assert torch.equal(torch.get_rng_state(), draws)


def test_learned_noise_is_learned() -> None:
    prior = tiny_prior(noise="learned")
    prior.losses(tiny_batch())["total"].backward()
    assert (
        prior.learned_noise is not None and prior.learned_noise.grad is not None and prior.learned_noise.grad.abs().max() > 0
    )


def sampled(prior: Prior, text: TextCondition, seeds: list[int]) -> Tensor:
    return prior.sample(text, [torch.Generator().manual_seed(seed) for seed in seeds])


def test_a_generator_a_caption_makes_the_batch_irrelevant() -> None:
    prior, text = tiny_prior(), tiny_batch().text
    seeds = [5, 6, 7, 8, 9, 10]
    together = sampled(prior, text, seeds)
    torch.testing.assert_close(sampled(prior, text.select([4, 1]), [9, 6]), together[[4, 1]], atol=1e-6, rtol=0)
    assert (sampled(prior, text.select([4]), [6]) - together[[4]]).abs().max() > 1e-4


def test_one_generator_repeats_itself() -> None:
    prior, text = tiny_prior(), tiny_batch().text
    first, again, other = (prior.sample(text, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(prior.sample(text), prior.sample(text))


def test_noise_is_gaussian_and_the_same_in_every_precision() -> None:
    noise = gaussian_noise(torch.empty(400, 100), torch.Generator().manual_seed(0))
    assert abs(float(noise.mean())) < 0.02 and abs(float(noise.std()) - 1) < 0.02
    narrow = gaussian_noise(torch.empty(400, 100, dtype=torch.bfloat16), torch.Generator().manual_seed(0))
    assert torch.equal(narrow, noise.bfloat16())


def test_too_few_generators() -> None:
    with pytest.raises(ValueError, match="1 generators for 6 captions"):
        sampled(tiny_prior(), tiny_batch().text, [0])


def test_sampling_leaves_no_graph() -> None:
    assert not tiny_prior().sample(tiny_batch().text).requires_grad


def test_sampling_under_autocast_returns_float32() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert tiny_prior().sample(tiny_batch().text).dtype == torch.float32


def test_learns() -> None:
    """A few steps on pairs whose image is a linear map of the text lower both terms."""
    prior, batch = tiny_prior(temperature=0.1), tiny_batch(64)
    optimizer = torch.optim.AdamW(prior.parameters(), lr=3e-3)
    history = []
    for _ in range(60):
        losses = prior.losses(batch)
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
        history.append({name: loss.item() for name, loss in losses.items()})
    assert history[-1]["projection"] < 0.8 * history[0]["projection"]
    assert history[-1]["contrastive"] < 0.8 * history[0]["contrastive"]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"reduction": "max"}, "reduction is 'max'; choose one of 'mean', 'sum'"),
        ({"negatives": "none"}, "negatives is 'none'; choose one of 'all_ranks', 'this_rank'"),
        ({"target": "both"}, "target is 'both'; choose one of 'text', 'image', 'symmetric'"),
        ({"noise": "uniform"}, "noise is 'uniform'; choose one of 'gaussian', 'zero', 'learned'"),
        ({"contrastive_weight": -1.0}, "contrastive_weight is -1.0; it must be 0"),
        ({"contrastive_weight": math.nan}, "contrastive_weight is nan"),
        ({"temperature": 0.0}, "temperature is 0.0; it must be above 0"),
        ({"temperature": 0.001, "learn_temperature": True}, "temperature is 0.001; it must be between 0.01 and 100"),
        ({"contrastive_weight": 0.0, "learn_temperature": True}, "so the temperature has no gradient"),
        ({"hard_negatives": True, "target": "image"}, "hard_negatives is True, and they are captions, but target is 'image'"),
        ({"num_layers": 0}, "num_layers is 0"),
    ],
)
def test_bad_choice(kwargs: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Under pytest beartype is there first; a user has our sentence.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        EclipsePrior(tiny_space(), **kwargs)  # type: ignore[arg-type]
