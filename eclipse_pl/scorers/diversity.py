"""Diversity of the images of one prompt: their pairwise distances, and the Vendi score."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

DISTANCE, VENDI = "diversity", "vendi"
NEITHER_WAY_IS_BETTER = (DISTANCE, VENDI)
"""Scores of which neither high nor low is good: noise is the most diverse."""


def distances_to_others(values: Float[Tensor, "images dim"]) -> Float[Tensor, " images"]:
    """Return the mean distance, 1 - cosine, of each image to the other images.

    Their mean is the mean over all pairs, whose expectation does not depend on the number of images.

    Args:
        values: Features of at least two images.
    """
    unit = F.normalize(values.double(), dim=1)
    apart = 1 - unit @ unit.T
    return apart.fill_diagonal_(0).sum(1) / (len(values) - 1)


def vendi(values: Float[Tensor, "images dim"]) -> float:
    """Return the Vendi score (Friedman & Dieng, 2023) of the cosine kernel: the effective number of different images.

    It lies between 1, for equal images, and the number of images, so compare equal numbers of images only.
    """
    unit = F.normalize(values.double(), dim=1)
    shares = torch.linalg.eigvalsh(unit @ unit.T / len(values)).clamp(min=0)
    return math.exp(float(torch.special.entr(shares).sum()))
