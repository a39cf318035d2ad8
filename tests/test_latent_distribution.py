"""Metrics of distributions: against written-out loops, scipy, another implementation, and closed forms on Gaussians."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch.utils._python_dispatch import TorchDispatchMode

from eclipse_pl.latent.distribution import (
    OF_CAPTIONS,
    OF_SETS,
    estimate_captions,
    estimate_sets,
    frechet,
    measure_samples,
    neighbourhoods,
    require_samples,
    variance_ratio,
)
from eclipse_pl.scorers import distribution
from eclipse_pl.scorers.features import Features


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_samples_agree_with_a_double_loop() -> None:
    samples, image = gaussian(7, 5, 6) + 1, gaussian(7, 6, seed=1) + 1
    found = measure_samples(samples, image)
    assert tuple(found) == OF_CAPTIONS
    for row in range(7):
        drawn, true = samples[row].numpy(), image[row].numpy()

        def cosine(one: np.ndarray, other: np.ndarray) -> float:
            return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))

        others = [(i, j) for i in range(5) for j in range(5) if i != j]
        energy = sum(np.linalg.norm(one - true) for one in drawn) / 5
        energy -= sum(np.linalg.norm(drawn[i] - drawn[j]) for i, j in others) / (2 * 5 * 4)
        expected = {
            "energy_score": energy,
            "spread": sum(1 - cosine(drawn[i], drawn[j]) for i, j in others) / 20,
            "best_cosine": max(cosine(one, true) for one in drawn),
            "mean_cosine": sum(cosine(one, true) for one in drawn) / 5,
            "sample_norm": sum(np.linalg.norm(one) for one in drawn) / 5,
        }
        assert {name: values[row].item() for name, values in found.items()} == pytest.approx(expected, rel=1e-5)


def test_pairs_of_samples_are_never_held_all_at_once() -> None:
    """There are k (k - 1) / 2 of them for each caption: 496 for 32 samples."""
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            found = function(*args, **(kwargs or {}))
            if isinstance(found, torch.Tensor):
                largest = max(largest, found.numel())
            return found

    samples, image = gaussian(10, 32, 6), gaussian(10, 6, seed=1)
    with Watch():
        measure_samples(samples, image)
    assert largest <= samples.numel()


def test_the_energy_score_prefers_the_truth_and_the_cosine_its_mean() -> None:
    centre, count = 2 * gaussian(2000, 1, 8), 8
    image = (centre[:, 0] + gaussian(2000, 8, seed=1)).float()
    priors = {
        "truth": centre + gaussian(2000, count, 8, seed=2),
        "mean": centre.expand(-1, count, -1),
        "too wide": centre + 2 * gaussian(2000, count, 8, seed=2),
    }
    means = {
        name: {metric: values.mean().item() for metric, values in measure_samples(samples, image).items()}
        for name, samples in priors.items()
    }
    energy = {name: values["energy_score"] for name, values in means.items()}
    assert energy["truth"] < min(energy["mean"], energy["too wide"])
    assert means["mean"]["mean_cosine"] > means["truth"]["mean_cosine"] and means["mean"]["spread"] == pytest.approx(
        0, abs=1e-6
    )
    # closed form for the truth: half the mean distance of two draws, sqrt(2) * E chi_8
    chi = math.sqrt(2) * math.gamma(4.5) / math.gamma(4)
    assert energy["truth"] == pytest.approx(math.sqrt(2) * chi / 2, rel=0.02)
    assert energy["mean"] == pytest.approx(chi, rel=0.02)


def test_frechet_agrees_with_scipy_and_the_closed_form() -> None:
    first = gaussian(400, 6) @ gaussian(6, 6, seed=1) + 1
    second = gaussian(300, 6, seed=2) @ gaussian(6, 6, seed=3)
    one, other = (np.cov(values.numpy().T, bias=True) for values in (first, second))
    expected = float(((first.mean(0) - second.mean(0)) ** 2).sum()) + np.trace(one + other - 2 * sqrtm(one @ other).real)
    assert frechet(first, second) == pytest.approx(expected, rel=1e-9)
    assert frechet(first, first) == pytest.approx(0, abs=1e-9)
    assert frechet(first + 3, first) == pytest.approx(6 * 9)
    assert frechet(3 * gaussian(50_000, 4), gaussian(50_000, 4, seed=1)) == pytest.approx(4 * (3 - 1) ** 2, rel=0.02)
    assert frechet(first[:4], second[:4]) > 0, "fewer pairs than dimensions"


def test_neighbourhoods_agree_with_a_loop_and_with_the_metrics_of_images() -> None:
    images, predicted, k = gaussian(60, 3), 1.5 * gaussian(50, 3, seed=1), 4
    density, covered = neighbourhoods(predicted, images, k)
    reach = [sorted(math.dist(one, other) for other in images.tolist())[k] for one in images.tolist()]  # [0] is the image
    inside = [
        [math.dist(one, image) <= far for image, far in zip(images.tolist(), reach, strict=True)] for one in predicted.tolist()
    ]
    assert density.tolist() == pytest.approx([sum(row) / k for row in inside])
    assert covered.tolist() == [float(any(row[i] for row in inside)) for i in range(60)]
    features = [
        Features(values.float(), tuple(map(str, range(len(values)))), "none", "none") for values in (images, predicted)
    ]
    known = distribution.coverage(*features, neighbours=k)
    assert (density.mean().item(), covered.mean().item()) == pytest.approx((known.density, known.coverage), abs=1e-6)


@pytest.mark.long
def test_sets_of_one_distribution_are_alike() -> None:
    estimates = estimate_sets(gaussian(2000, 8).float(), gaussian(2000, 8, seed=1).float(), torch.arange(2000))
    assert tuple(estimates) == OF_SETS
    for name in ("variance_ratio", "density"):
        assert estimates[name].low < 1 < estimates[name].high, name
    assert estimates["coverage"].mean == pytest.approx(1 - 2**-5, abs=0.02), "Naeem et al.'s expectation for k = 5"
    assert estimates["frechet"].mean < 0.1 and not estimates["frechet"].has_interval


@pytest.mark.long
def test_the_interval_of_a_variance_ratio_covers_the_truth() -> None:
    """Predictions are the means: by the law of total variance the ratio is 0.8."""
    hits = 0
    for seed in range(60):
        centre = 2 * gaussian(60, 4, seed=seed)
        image = centre + gaussian(60, 4, seed=1000 + seed)
        estimate = estimate_sets(centre.float(), image.float(), torch.arange(60))["variance_ratio"]
        assert estimate.mean == pytest.approx(variance_ratio(centre.float().double(), image.float().double())[0])
        hits += estimate.low < 0.8 < estimate.high
    assert hits >= 52


def test_intervals_are_over_images() -> None:
    """Five captions of an image, with one value, are no five times the evidence."""
    values, group = gaussian(40), torch.arange(40)
    one = estimate_captions(dict.fromkeys(OF_CAPTIONS, values), group)["spread"]
    five = estimate_captions(dict.fromkeys(OF_CAPTIONS, values.repeat_interleave(5)), group.repeat_interleave(5))["spread"]
    assert (five.n, five.mean) == (40, pytest.approx(one.mean)) and (five.low, five.high) == pytest.approx((one.low, one.high))


def test_intervals_of_sets_are_over_images() -> None:
    """Variance ratio and density are means of one term a caption."""
    predicted, image, group = gaussian(40, 3).float(), gaussian(40, 3, seed=1).float(), torch.arange(40)
    one = estimate_sets(predicted, image, group)
    five = estimate_sets(*(values.repeat_interleave(5, 0) for values in (predicted, image, group)))
    for name in ("variance_ratio", "density"):
        assert (five[name].n, five[name].mean) == (40, pytest.approx(one[name].mean)), name
        assert (five[name].low, five[name].high) == pytest.approx((one[name].low, one[name].high)), name


def test_a_value_that_is_0_for_all_is_no_rate() -> None:
    """A deterministic prior has no spread: an exact interval of a share would say that it may have some."""
    image = gaussian(40, 3).float()
    values = measure_samples(image[:, None].expand(-1, 2, -1), image)
    assert not estimate_captions(values, torch.arange(40))["energy_score"].has_interval
    mean = image.mean(0).expand_as(image)
    assert not estimate_sets(mean, image, torch.arange(40))["variance_ratio"].has_interval


def test_equal_samples_have_a_spread_of_exactly_0() -> None:
    """And not one of -0.000 from rounding, with an interval below 0."""
    image = gaussian(200, 64).float()
    values = measure_samples(image[:, None].expand(-1, 3, -1), image)
    assert not values["spread"].any() and not estimate_captions(values, torch.arange(200))["spread"].has_interval


def test_few_images_and_broken_predictions_have_no_value() -> None:
    few = estimate_sets(gaussian(5, 3).float(), gaussian(5, 3, seed=1).float(), torch.arange(5))
    assert math.isnan(few["density"].mean) and math.isnan(few["coverage"].mean) and few["frechet"].mean > 0
    same = estimate_sets(gaussian(30, 3).float(), gaussian(3, 3, seed=1).float().repeat(10, 1), torch.arange(30) % 3)
    assert math.isnan(same["coverage"].mean), "ten captions of three images are three images"
    predicted = gaussian(30, 3).float()
    predicted[3] = torch.nan
    broken = estimate_sets(predicted, gaussian(30, 3, seed=1).float(), torch.arange(30))
    assert all(math.isnan(broken[name].mean) for name in OF_SETS)


def test_neighbourhoods_of_many_images_are_those_of_a_fixed_part_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their time grows by the square of the number of images."""
    image, group = gaussian(60, 3, seed=1).float().repeat(2, 1), torch.arange(60).repeat(2)
    predicted = (image + 0.5 * gaussian(120, 3)).float()
    whole = estimate_sets(predicted, image, group)
    monkeypatch.setattr("eclipse_pl.latent.distribution.MOST_IMAGES", 60)
    assert estimate_sets(predicted, image, group) == whole
    monkeypatch.setattr("eclipse_pl.latent.distribution.MOST_IMAGES", 40)
    part = estimate_sets(predicted, image, group)
    assert part == estimate_sets(predicted, image, group) and (part["coverage"].n, part["density"].n) == (40, 40)
    assert part["coverage"].mean == pytest.approx(whole["coverage"].mean, abs=0.1)
    assert part["density"].mean == pytest.approx(whole["density"].mean, abs=0.15)
    assert {name: part[name] for name in ("variance_ratio", "frechet")} == {
        name: whole[name] for name in ("variance_ratio", "frechet")
    }
    assert estimate_sets(image, image, group)["coverage"].mean == 1, "the predictions are those of the images' captions"


@pytest.mark.parametrize("samples", [-1, 1])
def test_one_sample_has_no_spread(samples: int) -> None:
    with pytest.raises(ValueError, match=rf"latent\.samples is {samples}; the spread of a caption's samples needs at least 2"):
        require_samples("latent.samples", samples)
    require_samples("latent.samples", 0)
    require_samples("latent.samples", 2)
