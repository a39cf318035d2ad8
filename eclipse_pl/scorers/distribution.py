"""Distances between generated images and reference images: FID, KID, FD-DINOv2, CMMD, precision, recall, density, coverage.

They need many images and one protocol (`Features`). For a few hundred images use KID, which has no bias. FID, FD-DINOv2 and
CMMD shrink as images are added, so compare equal numbers of images only.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from eclipse_pl.scorers.features import Features

CMMD_BANDWIDTH, CMMD_SCALE = 10.0, 1000.0
"""Of the Gaussian kernel, and the factor of published values (Jayasumana et al., 2024)."""


@dataclass(frozen=True)
class Coverage:
    """Quality and diversity, by exact nearest neighbours."""

    precision: float
    """Fraction of the images that lie inside the reference (Kynkäänniemi et al., 2019)."""
    recall: float
    """Fraction of the reference that lies inside the images."""
    density: float
    """Depth of the images inside the reference, 1 for equal distributions (Naeem et al., 2020). Outliers count less."""
    coverage: float
    """Fraction of the reference images with an image in their neighbourhood."""


def fid(reference: Features, images: Features, name: str = "FID") -> float:
    """Fréchet distance of two Gaussians (Heusel et al., 2017), by torchmetrics, in float64.

    In the features of DINOv2 it is FD-DINOv2 (Stein et al., 2023).

    Args:
        reference: Features of the reference images.
        images: Features of the generated images.
        name: Name of the distance in errors.

    Raises:
        ValueError: Protocols differ, or there are too few images: a covariance of full rank needs more images than features.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    _require_same_protocol(reference, images)
    dim = reference.values.shape[1]
    _require_enough(reference, images, dim + 1, f"{name} of {dim} features", "Generate more, or use KID.")
    metric = FrechetInceptionDistance(_Given(dim), sync_on_compute=False).set_dtype(torch.float64)
    metric.update(reference.values.double(), real=True)
    metric.update(images.values.double(), real=False)
    return float(metric.compute())


def kid(
    reference: Features, images: Features, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Squared MMD with a cubic kernel (Bińkowski et al., 2018), by torchmetrics: mean and standard deviation over subsets.

    Raises:
        ValueError: Protocols differ, or one side has fewer images than a subset.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    _require_same_protocol(reference, images)
    _require_enough(reference, images, subset_size, f"KID with a subset_size of {subset_size}", "Generate more, or lower it.")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance` will save all extracted features")
        metric = KernelInceptionDistance(
            _Given(reference.values.shape[1]), subsets=subsets, subset_size=subset_size, sync_on_compute=False
        )
    metric.update(reference.values.double(), real=True)
    metric.update(images.values.double(), real=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # for the subsets
        mean, deviation = metric.compute()
    return float(mean), float(deviation)


def cmmd(reference: Features, images: Features) -> float:
    """Squared MMD of unit vectors with a Gaussian kernel, times 1000 (Jayasumana et al., 2024, equation 4), in float64.

    The published estimator includes the kernel of each image with itself, so the value is biased: for equal distributions it
    is about ``5 (1 / images + 1 / reference) s``, with s the mean squared distance of two images, and not 0.

    Raises:
        ValueError: Protocols differ, or one side has fewer than two images.
    """
    _require_enough(reference, images, 2, "CMMD", "Generate more.")
    _require_same_protocol(reference, images)
    real, generated = (F.normalize(features.values.double(), dim=1) for features in (reference, images))
    squared = _mean_kernel(real, real) + _mean_kernel(generated, generated) - 2 * _mean_kernel(real, generated)
    return CMMD_SCALE * squared


def _mean_kernel(one: Float[Tensor, "n dim"], other: Float[Tensor, "m dim"]) -> float:
    """Return the mean of the kernel over all pairs of unit vectors."""
    total = 0.0
    for rows in one.split(1024):
        distance = 2 - 2 * rows @ other.T
        total += float(torch.exp(-distance / (2 * CMMD_BANDWIDTH**2)).sum())
    return total / (len(one) * len(other))


def coverage(reference: Features, images: Features, neighbours: int = 5) -> Coverage:
    """Precision, recall, density and coverage. An image's neighbourhood reaches to its ``neighbours``-th neighbour."""
    _require_same_protocol(reference, images)
    _require_enough(reference, images, neighbours + 1, f"Coverage with {neighbours} neighbours", "Generate more, or lower it.")
    real, generated = reference.values.double(), images.values.double()
    inside_real, inside_generated, nearest = torch.zeros(len(generated)), torch.zeros(len(real), dtype=torch.bool), []
    reach_real, reach_generated = _reach(real, neighbours), _reach(generated, neighbours)
    for rows in torch.arange(len(real)).split(1024):
        distance = torch.cdist(real[rows], generated)
        inside_real += (distance < reach_real[rows, None]).sum(0)
        inside_generated[rows] = (distance < reach_generated).any(1)
        nearest.append(distance.amin(1))
    return Coverage(
        precision=float((inside_real > 0).double().mean()),
        recall=float(inside_generated.double().mean()),
        density=float(inside_real.double().mean() / neighbours),
        coverage=float((torch.cat(nearest) < reach_real).double().mean()),
    )


def _reach(values: Float[Tensor, "images dim"], neighbours: int) -> Float[Tensor, " images"]:
    """Return the distance of each row to its n-th neighbour. A row is not its own neighbour."""
    reach = []
    for rows in torch.arange(len(values)).split(1024):
        distance = torch.cdist(values[rows], values)
        distance[torch.arange(len(rows)), rows] = torch.inf
        reach.append(distance.kthvalue(neighbours, dim=1).values)
    return torch.cat(reach)


class _Given(nn.Module):
    """Extractor for torchmetrics that returns the given features."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Float[Tensor, "images dim"]) -> Float[Tensor, "images dim"]:
        return features


def _require_same_protocol(reference: Features, images: Features) -> None:
    for part in ("extractor", "preparation"):
        ours, theirs = getattr(images, part), getattr(reference, part)
        if ours != theirs:
            raise ValueError(f"The images' {part} is {ours}, and the reference's {theirs}. Extract both alike.")


def _require_enough(reference: Features, images: Features, needed: int, measure: str, remedy: str) -> None:
    for features, name in ((reference, "in the reference"), (images, "generated")):
        if len(features) < needed:
            raise ValueError(f"{measure} needs at least {needed} images on either side; {len(features)} are {name}. {remedy}")
