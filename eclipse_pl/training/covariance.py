"""The covariance of a set of shards that was made before sets had one: computed once, and kept in the user's cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from eclipse_pl.data.remote_folder import is_url
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.embed.image_statistics import image_statistics
from eclipse_pl.files import cache_folder
from eclipse_pl.kept_array import kept_array
from eclipse_pl.priors.prior import Prior
from eclipse_pl.priors.standardised import StandardisedNetwork


def complete_covariance(prior: Prior, shards: ShardSet, folder: str) -> None:
    """Give the covariance of ``shards`` to networks that are to predict whitened embeddings and lack it.

    It reads all image embeddings of the training pairs, once for a set. Behind a URL that would be a download of the set, so
    there the network says itself, at its first use, what is missing.
    """
    networks = [one for one in prior.modules() if isinstance(one, StandardisedNetwork) and one.lacks_covariance]
    if not networks or is_url(folder):
        return
    covariance = kept_covariance(shards, Path(folder))
    for network in networks:
        network.set_whitening(prior.space.image_mean, covariance)


def kept_covariance(shards: ShardSet, folder: Path) -> Float[Tensor, "dim dim"]:
    """From the cache, or computed now. Only one of several processes computes it."""
    path = cache_folder("covariance") / f"{shards.manifest.digest[:16]}.npy"

    def compute() -> np.ndarray:
        rank_zero_info(f"{shards.name} holds no covariance of its image embeddings. It is computed now, and kept in {path}.")
        return image_statistics(folder, shards.manifest.shards, shards.space.dim).image_covariance.numpy()

    return torch.from_numpy(kept_array(path, compute))
