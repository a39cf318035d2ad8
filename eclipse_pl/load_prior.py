"""A prior by name: the folder of a run, or a released prior."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
import yaml

from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.priors.diffusion import DiffusionPrior
from eclipse_pl.priors.eclipse import EclipsePrior
from eclipse_pl.priors.prior import Prior
from eclipse_pl.priors.released import ReleasedPrior, read_released
from eclipse_pl.priors.weights import checkpoint_space, fill_from_checkpoint, find_checkpoint, read_checkpoint

PUBLISHED = {768: ("ViT-L-14", "openai"), 1280: ("ViT-bigG-14", "laion2b_s39b_b160k")}
"""The CLIPs of all published priors, by width: Karlo's, and Kandinsky 2.2's."""


def load_prior(source: str, encoder: Encoder | None = None) -> Prior:
    """The prior of a run (weights of ``last.ckpt``), or of a released folder or hub id, in evaluation mode, on the CPU.

    A run's checkpoint holds its space, so its shards need not be at hand. Of a released prior the space is in its folder if
    `export` wrote it; else it is ``encoder``'s, by default the published one of that width.

    Raises:
        ValueError: ``source`` is neither, or ``encoder`` belongs to another space.
    """
    checkpoint = find_checkpoint(source)
    prior = load_run_prior(checkpoint) if checkpoint is not None else load_released_prior(source, encoder)
    if encoder is not None and encoder.tag != prior.space.encoder:
        raise ValueError(
            f"The prior {source} belongs to {prior.space}, and the encoder is {encoder.tag}: take the prior's own."
        )
    return prior.eval()


def load_run_prior(checkpoint: Path) -> Prior:
    config = checkpoint.parent.parent / "config.yaml"
    if not config.is_file():
        raise ValueError(f"There is no {config}, which says what the prior in {checkpoint} is.")
    part = yaml.safe_load(config.read_text(encoding="utf-8"))["model"]["prior"]
    content = read_checkpoint(checkpoint)
    module, _, name = part["class_path"].rpartition(".")
    prior: Prior = getattr(importlib.import_module(module), name)(
        checkpoint_space(content, checkpoint), **{**part.get("init_args", {}), **without_weights(part)}
    )
    fill_from_checkpoint(prior, content, str(checkpoint))
    return prior


def without_weights(part: dict[str, Any]) -> dict[str, None]:
    """What a run began with is of no use once its own weights are loaded, and may be gone."""
    return {"weights": None} if "weights" in part.get("init_args", {}) else {}


def load_released_prior(source: str, encoder: Encoder | None = None) -> Prior:
    released = read_released(source)
    space = released.space or (encoder or published_encoder(released)).space(
        torch.zeros(released.size("embedding_dim")), torch.ones(released.size("embedding_dim"))
    )
    prior = (DiffusionPrior if released.is_diffusion else EclipsePrior)(space, **released.init_args)
    released.load_into(prior.network)
    return prior


def published_encoder(released: ReleasedPrior) -> Encoder:
    dim = released.size("embedding_dim")
    if dim not in PUBLISHED:
        raise ValueError(
            f"{released.source} is {dim} wide and says not of which CLIP; published priors are "
            f"{' or '.join(map(str, PUBLISHED))} wide. Say which with --encoder."
        )
    return OpenClipEncoder(*PUBLISHED[dim])
