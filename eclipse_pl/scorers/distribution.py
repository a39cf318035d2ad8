"""Distances between the images of a model and reference images: FID, KID, precision and recall, density and coverage.

They need many images and one protocol (`Features`). For a few hundred images use KID, which has no bias. FID shrinks as
images are added.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eclipse_pl.scorers.features import Features


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


def fid(reference: Features, images: Features) -> float:
    """Fréchet distance of two Gaussians (Heusel et al., 2017), by torchmetrics, in float64.

    Raises:
        ValueError: Protocols differ, or there are too few images: a covariance of full rank needs more images than features.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    _require_same_protocol(reference, images)
    dim = reference.values.shape[1]
    _require_enough(reference, images, dim + 1, f"FID of {dim} features", "Generate more, or use KID.")
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
