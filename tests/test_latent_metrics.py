import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cosine_similarity

from eclipse_pl.data.subset_names import ALL
from eclipse_pl.embedding import EmbeddingBatch, TextCondition
from eclipse_pl.latent.metrics import Measured, hard_negative, measure, measure_pairs


def split(pairs: int = 40, dim: int = 8, subsets: bool = True) -> tuple[torch.Tensor, EmbeddingBatch]:
    """Predictions near the truth, and the pairs."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(pairs, dim, generator=generator) + 2
    negative = torch.randn(pairs, dim, generator=generator)
    negative[::2] = torch.nan
    predicted = image + 0.5 * torch.randn(pairs, dim, generator=generator)
    text = TextCondition(
        torch.randn(pairs, dim, generator=generator), torch.zeros(0, dim), torch.zeros(pairs, dtype=torch.int64)
    )
    names = [("seen", "unseen")[row % 2] for row in range(pairs)] if subsets else None
    return predicted, EmbeddingBatch(text, image, torch.arange(pairs), negative_embed=negative, subsets=names)


def test_truth_is_the_upper_bound():
    _, truth = split()
    metrics = measure(truth.image_embed, truth, truth.image_embed.mean(0))[ALL]
    assert metrics["cosine"] == pytest.approx(1)
    assert metrics["centred_cosine"] == pytest.approx(1)
    assert metrics["mse"] == 0
    assert metrics["R@1"] == metrics["R@10"] == 1
    assert metrics["hard_negative"] == 1


def test_a_constant_has_a_high_cosine_and_finds_nothing():
    _, truth = split(pairs=100)
    mean = truth.image_embed.mean(0)
    metrics = measure(mean.expand_as(truth.image_embed), truth, mean)[ALL]
    assert metrics["cosine"] > 0.8
    assert metrics["centred_cosine"] == pytest.approx(0, abs=1e-6)
    assert metrics["R@1"] == pytest.approx(0.01)
    assert metrics["R@10"] == pytest.approx(0.10)


def test_metrics_agree_with_loops():
    predicted, truth = split()
    metrics = measure(predicted, truth, truth.image_embed.mean(0))[ALL]
    hits = {1: 0, 5: 0, 10: 0}
    for row in range(len(predicted)):
        similarity = [cosine_similarity(predicted[row], image, dim=0).item() for image in truth.image_embed]
        place = sum(value > similarity[row] for value in similarity)
        for k in hits:
            hits[k] += place < k
    for k, count in hits.items():
        assert metrics[f"R@{k}"] == pytest.approx(count / len(predicted))
    assert metrics["mse"] == pytest.approx(torch.nn.functional.mse_loss(predicted, truth.image_embed).item())
    assert metrics["text_cosine"] == pytest.approx(cosine_similarity(predicted, truth.text.text_embed).mean().item(), abs=1e-6)


def test_a_prediction_that_is_not_finite_finds_nothing():
    predicted, truth = split()
    mean = truth.image_embed.mean(0)
    broken = predicted.clone()
    broken[:10] = torch.nan
    metrics = measure(broken, truth, mean)[ALL]
    assert metrics["R@10"] <= 30 / 40
    assert metrics["hard_negative"] < measure(predicted, truth, mean)[ALL]["hard_negative"]
    assert math.isnan(metrics["cosine"])


def test_hard_negatives_are_those_that_exist():
    predicted, truth = split()
    image, negative = truth.image_embed, truth.negative_embed
    nothing = torch.full_like(negative, torch.nan)
    assert hard_negative(predicted, image, nothing).isnan().all()
    assert hard_negative(predicted, predicted, predicted).tolist() == [0.5] * 40, "ties count half"
    truth = replace(truth, negative_embed=image.roll(1, 0).where(negative.isfinite(), torch.nan))
    won = hard_negative(predicted, image, truth.negative_embed)
    assert won[::2].isnan().all()
    own, swapped = (cosine_similarity(predicted, other) for other in (image, image.roll(1, 0)))
    assert won[1::2].tolist() == (own > swapped)[1::2].float().tolist()
    assert measure(predicted, truth, image.mean(0))[ALL]["hard_negative"] == pytest.approx(won[1::2].mean().item())
    for none in (nothing, None):
        metrics = measure(predicted, replace(truth, negative_embed=none), image.mean(0))[ALL]
        assert math.isnan(metrics["hard_negative"])


def test_pairs_average_to_the_metrics():
    predicted, truth = split()
    mean = truth.image_embed.mean(0)
    pairs, metrics = measure_pairs(predicted, truth, mean), measure(predicted, truth, mean)
    for name in ("cosine", "centred_cosine", "mse", "text_cosine", "norm"):
        assert metrics[ALL][name] == pytest.approx(pairs[name].mean().item())
        assert metrics["unseen"][name] == pytest.approx(pairs[name][1::2].mean().item())


def test_subsets_search_the_whole_split():
    predicted, truth = split()
    mean = truth.image_embed.mean(0)
    metrics = measure(predicted, truth, mean)
    assert list(metrics) == [ALL, "seen", "unseen"]
    for name in ("cosine", "R@1", "mse"):
        assert metrics[ALL][name] == pytest.approx((metrics["seen"][name] + metrics["unseen"][name]) / 2)
    assert list(measure(*split(subsets=False), mean)) == [ALL]
    assert list(measure(predicted, replace(truth, subsets=["seen"] * 40), mean)) == [ALL], "one subset is the whole split"


def test_joining_sorts_by_pair():
    predicted, truth = split()
    mean = truth.image_embed.mean(0)
    whole = Measured.of(predicted, replace(truth, group=truth.index // 2), mean)
    parts = []
    for rows in (range(20, 40), range(20)):
        taken = list(rows)
        batch = EmbeddingBatch(
            truth.text.select(taken),
            truth.image_embed[taken],
            truth.index[taken],
            group=truth.index[taken] // 2,
            negative_embed=truth.negative_embed[taken],
            subsets=[truth.subsets[row] for row in taken],
        )
        parts.append(Measured.of(predicted[taken], batch, mean))
    joined = Measured.join(parts)
    assert joined.index.tolist() == list(range(40)) and joined.group.tolist() == [row // 2 for row in range(40)]
    assert joined.subsets == truth.subsets
    for name, values in whole.values.items():
        torch.testing.assert_close(joined.values[name], values, equal_nan=True)
