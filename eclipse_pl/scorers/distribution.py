"""Distances between the pictures of a model and reference pictures: FID, KID, and what of the reference is covered.

They need many pictures and one protocol (`Features`). Of a few hundred pictures take KID, which has no bias, and no FID, which
shrinks as pictures are added.
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
    """Quality and diversity apart, each from 0; all by exact nearest neighbours."""

    precision: float
    """Part of the pictures that lie inside the reference (Kynkäänniemi et al., 2019)."""
    recall: float
    """Part of the reference that lies inside the pictures."""
    density: float
    """How deep pictures lie inside the reference, 1 for equal distributions (Naeem et al., 2020); outliers count less."""
    coverage: float
    """Part of the reference pictures with a picture in their neighbourhood: diversity."""


def fid(reference: Features, pictures: Features) -> float:
    """Fréchet distance of two Gaussians (Heusel et al., 2017), by torchmetrics, in float64.

    Raises:
        ValueError: protocols differ; or there are no more pictures than features, so that a covariance has no full rank.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    _require_same_protocol(reference, pictures)
    dim = reference.values.shape[1]
    _require_enough(reference, pictures, dim + 1, f"FID of {dim} features", "Paint more, or take KID.")
    metric = FrechetInceptionDistance(_Given(dim), sync_on_compute=False).set_dtype(torch.float64)
    metric.update(reference.values.double(), real=True)
    metric.update(pictures.values.double(), real=False)
    return float(metric.compute())


def kid(
    reference: Features, pictures: Features, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Squared MMD with a cubic kernel (Bińkowski et al., 2018), by torchmetrics: mean and standard deviation over subsets.

    Raises:
        ValueError: protocols differ; or either side has fewer pictures than a subset.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    _require_same_protocol(reference, pictures)
    _require_enough(reference, pictures, subset_size, f"KID with a subset_size of {subset_size}", "Paint more, or lower it.")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance` will save all extracted features")
        metric = KernelInceptionDistance(
            _Given(reference.values.shape[1]), subsets=subsets, subset_size=subset_size, sync_on_compute=False
        )
    metric.update(reference.values.double(), real=True)
    metric.update(pictures.values.double(), real=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # for the subsets
        mean, deviation = metric.compute()
    return float(mean), float(deviation)


def coverage(reference: Features, pictures: Features, neighbours: int = 5) -> Coverage:
    """Precision and recall, density and coverage. A picture's neighbourhood reaches to its ``neighbours``-th neighbour."""
    _require_same_protocol(reference, pictures)
    _require_enough(reference, pictures, neighbours + 1, f"Coverage with {neighbours} neighbours", "Paint more, or lower it.")
    real, painted = reference.values.double(), pictures.values.double()
    inside_real, inside_painted, nearest = torch.zeros(len(painted)), torch.zeros(len(real), dtype=torch.bool), []
    reach_real, reach_painted = _reach(real, neighbours), _reach(painted, neighbours)
    for rows in torch.arange(len(real)).split(1024):
        distance = torch.cdist(real[rows], painted)
        inside_real += (distance < reach_real[rows, None]).sum(0)
        inside_painted[rows] = (distance < reach_painted).any(1)
        nearest.append(distance.amin(1))
    return Coverage(
        precision=float((inside_real > 0).double().mean()),
        recall=float(inside_painted.double().mean()),
        density=float(inside_real.double().mean() / neighbours),
        coverage=float((torch.cat(nearest) < reach_real).double().mean()),
    )


def _reach(values: Float[Tensor, "pictures dim"], neighbours: int) -> Float[Tensor, " pictures"]:
    """Distance of each row to its n-th neighbour, itself not counted."""
    reach = []
    for rows in torch.arange(len(values)).split(1024):
        distance = torch.cdist(values[rows], values)
        distance[torch.arange(len(rows)), rows] = torch.inf
        reach.append(distance.kthvalue(neighbours, dim=1).values)
    return torch.cat(reach)


class _Given(nn.Module):
    """The extractor of torchmetrics where features are given instead of pictures."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Float[Tensor, "pictures dim"]) -> Float[Tensor, "pictures dim"]:
        return features


def _require_same_protocol(reference: Features, pictures: Features) -> None:
    for what in ("extractor", "preparation"):
        ours, theirs = getattr(pictures, what), getattr(reference, what)
        if ours != theirs:
            raise ValueError(f"The pictures' {what} is {ours}, and the reference's {theirs}. Extract both alike.")


def _require_enough(reference: Features, pictures: Features, needed: int, what: str, remedy: str) -> None:
    for features, name in ((reference, "in the reference"), (pictures, "painted")):
        if len(features) < needed:
            raise ValueError(f"{what} needs at least {needed} pictures on either side; {len(features)} are {name}. {remedy}")
