"""Metrics of predictions as a distribution, from several samples a caption, without a decoder.

Few captions tell all of an image. A prior that predicts the mean of a caption's images has the highest cosine, and a prior
that samples from them has a lower one, although it knows more. These metrics see the difference. No single one is enough:

energy_score    lower is better, and least for samples from the true distribution (Gneiting & Raftery 2007). In the units of
                the space. Its least value is not 0, but half the mean distance between two images of a caption.
spread          mean 1 - cosine between two samples of a caption. 0 for a prior that is deterministic. The truth is unknown,
                except in the world, where images can be drawn anew for a caption: higher is no better.
best_cosine     highest cosine of a caption's samples to the true image embedding. Random spread raises it too.
mean_cosine     mean cosine of the samples. A sample from the truth has a lower one than the mean of the truth.
sample_norm     mean norm of the samples. True image embeddings have that of the upper bound; means have a smaller one.
variance_ratio  variance of the predictions of all captions, as a share of that of the images, summed over dimensions. By the
                law of total variance it is below 1 for a prior that predicts means, and 1 for one that samples.
frechet         Fréchet distance of the Gaussians of predictions and images (Dowson & Landau 1982). More pairs lower it.
density         number of images' neighbourhoods that hold a prediction, as a share of that of equal sets (Naeem et al. 2020).
coverage        share of the images whose neighbourhood holds a prediction.

The difference of two energy scores, of a prior and of samples of the truth, is half their energy distance, on average.

The last four need one sample a caption. Those of different numbers of pairs, or of images, are not compared. Density and
coverage of more than 5,000 images are those of 5,000 of them, always the same ones, with all their captions.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from eclipse_pl.intervals import Estimate, Groups, score_interval, studentised_interval

OF_CAPTIONS = ("energy_score", "spread", "best_cosine", "mean_cosine", "sample_norm")
"""Metrics that have a value for each caption."""
OF_NEIGHBOURHOODS = ("density", "coverage")
OF_SETS = ("variance_ratio", "frechet", *OF_NEIGHBOURHOODS)
"""Metrics of all predictions of a split together."""
NEIGHBOURS = 5
"""An image's neighbourhood reaches to this one of the other images, the nearest first (Naeem et al. 2020)."""
MOST_IMAGES = 5000
"""Density and coverage of a larger set are those of this many of its images: their time grows by the square of the number."""
ROWS_AT_ONCE = 1024


def require_samples(option: str, samples: int) -> None:
    """Raise ValueError if so many samples a caption have no spread. 0 measures no distribution."""
    if samples < 0 or samples == 1:
        raise ValueError(
            f"{option} is {samples}; the spread of a caption's samples needs at least 2 (usual: 8), and 0 leaves the metrics "
            "of distributions out."
        )


def require_redraws(option: str, redraws: int, samples: int) -> None:
    """Raise ValueError if so many images drawn anew for a caption cannot stand beside ``samples`` samples of a prior."""
    if redraws < 0 or (redraws and not 2 <= samples <= redraws):
        raise ValueError(
            f"{option} is {redraws} with latent.samples {samples}; it must be at least latent.samples, which must be 2 or "
            "more (usual: 32 and 8). 0 draws no image anew."
        )


def measure_samples(
    samples: Float[Tensor, "captions samples dim"], image: Float[Tensor, "captions dim"]
) -> dict[str, Float[Tensor, " captions"]]:
    """Return the metrics `OF_CAPTIONS` of each caption."""
    count = samples.shape[1]
    assert count > 1, "one sample has no spread"
    samples, image = samples.float(), image.float()
    units = normalize(samples, dim=-1)
    cosine = torch.einsum("nkd,nd->nk", units, normalize(image, dim=-1))
    apart, spread = torch.zeros_like(cosine[:, 0]), torch.zeros_like(cosine[:, 0])
    for one in range(count - 1):  # with all pairs of samples at once, the memory would grow by the square of their number
        apart += (samples[:, one + 1 :] - samples[:, one, None]).norm(dim=-1).sum(-1)
        # of unit vectors half the squared distance is 1 - cosine, and of equal samples exactly 0
        spread += (units[:, one + 1 :] - units[:, one, None]).square().sum((-2, -1)) / 2
    pairs = count * (count - 1) / 2
    return {
        "energy_score": (samples - image[:, None]).norm(dim=-1).mean(-1) - apart / pairs / 2,
        "spread": spread / pairs,
        "best_cosine": cosine.amax(-1),
        "mean_cosine": cosine.mean(-1),
        "sample_norm": samples.norm(dim=-1).mean(-1),
    }


def estimate_captions(values: dict[str, Float[Tensor, " captions"]], group: Int[Tensor, " captions"]) -> dict[str, Estimate]:
    """Means over captions with 95 % intervals over images. Captions of one ``group`` show one image."""
    return {name: _interval(values[name], group.numpy()) for name in OF_CAPTIONS}


def estimate_sets(
    predicted: Float[Tensor, "captions dim"], image: Float[Tensor, "captions dim"], group: Int[Tensor, " captions"]
) -> dict[str, Estimate]:
    """Return the metrics `OF_SETS` of one prediction a caption, with 95 % intervals over images.

    The Fréchet distance has no interval: it is biased, and resampling would add the bias once more. Density and coverage are
    those of `some_images` and their captions, and NaN where there are no more different images than neighbours. Their
    intervals take the neighbourhoods as given. All are NaN if a prediction is not finite.
    """
    predicted, image = predicted.double(), image.double()
    groups = group.cpu().numpy()
    _, terms = variance_ratio(predicted, image)
    images, shown = torch.unique(image, dim=0, return_inverse=True)
    chosen = some_images(len(images))
    images, near = images[chosen], torch.isin(shown.cpu(), chosen)
    density, covered = torch.full((int(near.sum()),), torch.nan), torch.full((len(images),), torch.nan)
    if len(images) > NEIGHBOURS and predicted.isfinite().all():
        density, covered = neighbourhoods(predicted[near], images)
    return {
        "variance_ratio": _interval(terms, groups),
        "frechet": Estimate.without(frechet(predicted, image), len(image)),
        "density": _interval(density, groups[near.numpy()]),
        "coverage": _interval(covered, np.arange(len(covered)), outcomes=True),
    }


def some_images(count: int) -> Int[Tensor, " chosen"]:
    """The numbers of at most `MOST_IMAGES` of ``count`` images, in order: always the same ones."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:MOST_IMAGES].sort().values


def variance_ratio(
    predicted: Float[Tensor, "captions dim"], image: Float[Tensor, "captions dim"]
) -> tuple[float, Float[Tensor, " captions"]]:
    """Return trace(cov(predicted)) / trace(cov(image)), and one term a caption: their mean is the ratio.

    Their variance is that of the ratio, to first order.
    """
    ours, theirs = ((values - values.mean(0)).square().sum(-1) for values in (predicted, image))
    ratio = ours.mean() / theirs.mean()
    return float(ratio), ratio + (ours - ratio * theirs) / theirs.mean()


def frechet(predicted: Float[Tensor, "captions dim"], image: Float[Tensor, "images dim"]) -> float:
    """Return ``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))``, in float64. Covariances may be singular."""
    if not predicted.isfinite().all():
        return math.nan
    first, second = (torch.cov(values.T, correction=0) for values in (predicted.double(), image.double()))
    half = _root(first)
    shared = torch.linalg.eigvalsh(half @ second @ half).clamp(min=0).sqrt().sum()
    means = (predicted.double().mean(0) - image.double().mean(0)).square().sum()
    return max(0.0, float(means + first.trace() + second.trace() - 2 * shared))


def neighbourhoods(
    predicted: Float[Tensor, "captions dim"], images: Float[Tensor, "images dim"], neighbours: int = NEIGHBOURS
) -> tuple[Float[Tensor, " captions"], Float[Tensor, " images"]]:
    """Return the number of neighbourhoods that hold each prediction, by ``neighbours``, and whether each image's holds one.

    Their means are density and coverage (Naeem et al. 2020, Eq. 4 and 5). The images are different ones.
    """
    density = predicted.new_zeros(len(predicted))
    covered = []
    for rows in torch.arange(len(images), device=images.device).split(ROWS_AT_ONCE):
        apart = torch.cdist(images[rows], images, compute_mode="donot_use_mm_for_euclid_dist")
        apart[torch.arange(len(rows), device=rows.device), rows] = torch.inf  # an image is not its own neighbour
        reach = apart.kthvalue(neighbours, dim=1).values
        inside = torch.cdist(images[rows], predicted, compute_mode="donot_use_mm_for_euclid_dist") <= reach[:, None]
        density += inside.sum(0) / neighbours
        covered.append(inside.any(1).to(predicted))
    return density.where(predicted.isfinite().all(-1), torch.nan), torch.cat(covered)


def _root(matrix: Float[Tensor, "dim dim"]) -> Float[Tensor, "dim dim"]:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def _interval(values: Float[Tensor, " rows"], groups: Int[np.ndarray, " rows"], outcomes: bool = False) -> Estimate:
    """``outcomes``: values are 0 or 1. Of other metrics equal values have no interval, whatever they are."""
    if not values.isfinite().all():
        return Estimate.without(math.nan, len(values))
    parts = [Groups.of(values.double().cpu().numpy()[:, None], groups)]
    return score_interval(parts) if outcomes else studentised_interval(parts)
