"""Weights to begin with: of a run of ours, or of a released prior."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import torch

from eclipse_pl.embedding import ClipSpace
from eclipse_pl.priors.network import PriorNetwork
from eclipse_pl.priors.prior import Prior
from eclipse_pl.priors.released import read_released, require_same_weights
from eclipse_pl.priors.standardised import StandardisedNetwork


def load_weights(prior: Prior, source: str) -> None:
    """Fill ``prior`` from the folder of a run, one of its checkpoints, or a released prior (folder or hub id).

    Raises:
        ValueError: there is nothing of that kind, or it belongs to another architecture or space.
    """
    network = getattr(prior, "network", None)
    standardised = isinstance(network, StandardisedNetwork) and network.is_standardised
    checkpoint = find_checkpoint(source)
    if checkpoint is not None:
        fill_from_checkpoint(prior, read_checkpoint(checkpoint), source)
    else:
        if not isinstance(network, PriorNetwork):
            raise ValueError(
                f"{source} is no run of this project, and {type(prior).__name__} has no prior transformer that a released "
                "prior could fill. Take weights of a run, or the prior EclipsePrior or DiffusionPrior."
            )
        released = read_released(source)
        if released.space is not None:
            prior.space.require_same(released.space, "the prior", f"the weights {source}")
        released.load_into(network)
    if isinstance(network, StandardisedNetwork) and network.is_standardised != standardised:
        raise ValueError(
            f"The weights {source} predict {'standardised' if network.is_standardised else 'raw'} embeddings: set the prior's "
            f"standardise to {str(network.is_standardised).lower()}."
        )


def fill_from_checkpoint(prior: Prior, content: dict[str, Any], source: str) -> None:
    """Fill ``prior`` from the checkpoint of a run; ``source`` names it in errors."""
    prior.space.require_same(checkpoint_space(content, source), "the prior", f"the weights {source}")
    tensors = {key.removeprefix("prior."): value for key, value in content["state_dict"].items()}
    require_same_weights(prior.state_dict(), tensors, f"The weights {source}")
    prior.load_state_dict(tensors)


def weights_sha256(prior: Prior) -> str:
    """First 16 digits of the hash of all its tensors: equal exactly where every weight is."""
    digest = hashlib.sha256()
    for name, tensor in sorted(prior.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def find_checkpoint(source: str) -> Path | None:
    """The checkpoint meant by a run's folder or a checkpoint's path; None where ``source`` is neither."""
    path = Path(source)
    if path.suffix == ".ckpt" and path.is_file():
        return path
    last = path / "checkpoints" / "last.ckpt"
    return last if last.is_file() else None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content, tensors left in the file until they are used; nothing is ever unpickled."""
    try:
        content: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{path} cannot be read safely: it is damaged, or holds pickled objects, which are never loaded."
        ) from error
    return content


def checkpoint_space(content: dict[str, Any], name: str | Path) -> ClipSpace:
    """The space that a checkpoint of ours names."""
    if "space" not in content:
        raise ValueError(f"{name} was not written by eclipse_pl: it names no CLIP space.")
    return ClipSpace.from_state(content["space"]["tensors"], content["space"]["identity"])
