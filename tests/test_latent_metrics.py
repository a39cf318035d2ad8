import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cosine_similarity

from eclipse_pl.latent_metrics import ALL, Predictions, hard_negative, measure, measure_pairs, retrieval_ranks


def predictions(pairs: int = 40, dim: int = 8, subsets: bool = True) -> Predictions:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(pairs, dim, generator=generator) + 2
    negative = torch.randn(pairs, dim, generator=generator)
    negative[::2] = torch.nan
    return Predictions(
        predicted=image + 0.5 * torch.randn(pairs, dim, generator=generator),
        image_embed=image,
        text_embed=torch.randn(pairs, dim, generator=generator),
        negative_embed=negative,
        index=torch.arange(pairs),
        subsets=[("seen", "unseen")[row % 2] if subsets else "" for row in range(pairs)],
    )


def test_truth_is_the_ceiling():
    truth = predictions()
    metrics = measure(truth.replace(truth.image_embed), truth.image_embed.mean(0))[ALL]
    assert metrics["cosine"] == pytest.approx(1)
    assert metrics["centred_cosine"] == pytest.approx(1)
    assert metrics["mse"] == 0
    assert metrics["R@1"] == metrics["R@10"] == 1
    assert metrics["hard_negative"] == 1


def test_a_constant_has_a_high_cosine_and_finds_nothing():
    truth = predictions(pairs=100)
    mean = truth.image_embed.mean(0)
    metrics = measure(truth.replace(mean.expand_as(truth.image_embed)), mean)[ALL]
    assert metrics["cosine"] > 0.8
    assert metrics["centred_cosine"] == pytest.approx(0, abs=1e-6)
    assert metrics["R@1"] == pytest.approx(0.01)
    assert metrics["R@10"] == pytest.approx(0.10)


def test_metrics_agree_with_loops():
    p = predictions()
    metrics = measure(p, p.image_embed.mean(0))[ALL]
    hits = {1: 0, 5: 0, 10: 0}
    for row in range(len(p.predicted)):
        similarity = [cosine_similarity(p.predicted[row], image, dim=0).item() for image in p.image_embed]
        place = sum(value > similarity[row] for value in similarity)
        for k in hits:
            hits[k] += place < k
    for k, count in hits.items():
        assert metrics[f"R@{k}"] == pytest.approx(count / len(p.predicted))
    assert metrics["mse"] == pytest.approx(torch.nn.functional.mse_loss(p.predicted, p.image_embed).item())
    assert metrics["text_cosine"] == pytest.approx(cosine_similarity(p.predicted, p.text_embed).mean().item(), abs=1e-6)


def test_retrieval_in_pieces_is_retrieval_at_once():
    p = predictions()
    assert torch.equal(retrieval_ranks(p.predicted, p.image_embed, 7), retrieval_ranks(p.predicted, p.image_embed))


def test_ties_count_half():
    twins = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert retrieval_ranks(twins, twins).tolist() == [0.5, 0.5, 0]
    assert hard_negative(twins, twins, twins).tolist() == [0.5] * 3


def test_a_prediction_that_is_not_finite_finds_nothing():
    p = predictions()
    broken = p.predicted.clone()
    broken[:10] = torch.nan
    metrics = measure(p.replace(broken), p.image_embed.mean(0))[ALL]
    assert metrics["R@10"] <= 30 / 40
    assert metrics["hard_negative"] < measure(p, p.image_embed.mean(0))[ALL]["hard_negative"]
    assert math.isnan(metrics["cosine"])


def test_hard_negatives_are_those_that_exist():
    p = predictions()
    nothing = torch.full_like(p.negative_embed, torch.nan)
    assert hard_negative(p.predicted, p.image_embed, nothing).isnan().all()
    p = replace(p, negative_embed=p.image_embed.roll(1, 0).where(p.negative_embed.isfinite(), torch.nan))
    won = hard_negative(p.predicted, p.image_embed, p.negative_embed)
    assert won[::2].isnan().all()
    own, swapped = (cosine_similarity(p.predicted, other) for other in (p.image_embed, p.image_embed.roll(1, 0)))
    assert won[1::2].tolist() == (own > swapped)[1::2].float().tolist()
    metrics = measure(p, p.image_embed.mean(0))[ALL]
    assert metrics["hard_negative"] == pytest.approx(won[1::2].mean().item())
    assert math.isnan(measure(replace(p, negative_embed=nothing), p.image_embed.mean(0))[ALL]["hard_negative"])


def test_pairs_average_to_the_metrics():
    p = predictions()
    pairs, metrics = measure_pairs(p, p.image_embed.mean(0)), measure(p, p.image_embed.mean(0))
    for name in ("cosine", "centred_cosine", "mse", "text_cosine", "norm"):
        assert metrics[ALL][name] == pytest.approx(pairs[name].mean().item())
        assert metrics["unseen"][name] == pytest.approx(pairs[name][1::2].mean().item())
    assert metrics[ALL]["R@5"] == pytest.approx((pairs["rank"] < 5).float().mean().item())


def test_subsets_search_the_whole_split():
    p = predictions()
    metrics = measure(p, p.image_embed.mean(0))
    assert list(metrics) == [ALL, "seen", "unseen"]
    for name in ("cosine", "R@1", "mse"):
        assert metrics[ALL][name] == pytest.approx((metrics["seen"][name] + metrics["unseen"][name]) / 2)
    assert list(measure(predictions(subsets=False), p.image_embed.mean(0))) == [ALL]


def test_joining_sorts_by_pair():
    p = predictions()
    rows = [torch.arange(20, 40), torch.arange(0, 20)]
    parts = [
        Predictions(*(getattr(p, name)[r] for name in ("predicted", "image_embed", "text_embed", "negative_embed", "index")),
                    [p.subsets[i] for i in r.tolist()])
        for r in rows
    ]  # fmt: skip
    joined = Predictions.join(parts)
    assert torch.equal(joined.predicted, p.predicted)
    assert joined.subsets == p.subsets
