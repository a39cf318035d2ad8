"""Folders of runs as `fit` leaves them, made of a prior in memory: no training, and any prior."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml

from eclipse_pl.embedding import ClipSpace
from eclipse_pl.lit_prior import LitPrior
from eclipse_pl.priors.prior import Prior


def randomise(prior: Prior, seed: int = 0) -> None:
    """Other numbers in every parameter, those that begin at zero included."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.1)


def write_run(folder: Path, prior: Prior, init_args: dict[str, Any], class_path: str | None = None) -> Path:
    """The folder of a run that has just ended, with nothing in it but config and checkpoint."""
    checkpoint: dict[str, Any] = {"global_step": 2, "epoch": 0, "pytorch-lightning_version": "2.6"}
    module = LitPrior(prior, torch.optim.AdamW)
    module.on_save_checkpoint(checkpoint)
    (folder / "checkpoints").mkdir(parents=True)
    torch.save({**checkpoint, "state_dict": module.state_dict()}, folder / "checkpoints" / "last.ckpt")
    write_config(
        folder, {"class_path": class_path or f"{type(prior).__module__}.{type(prior).__name__}", "init_args": init_args}
    )
    return folder


def write_config(folder: Path, prior: dict[str, Any]) -> None:
    """``config.yaml`` with this ``model.prior``."""
    data = {"class_path": "eclipse_pl.data.datamodule.EmbeddingDataModule", "init_args": {"folder": str(folder / "shards")}}
    (folder / "config.yaml").write_text(yaml.safe_dump({"data": data, "model": {"prior": prior}}))


def make_run(folder: Path, cls: type[Prior], space: ClipSpace, **init_args: Any) -> Path:
    """A run of a new prior of this class, with random weights."""
    prior = cls(space, **init_args)
    randomise(prior)
    return write_run(folder, prior, init_args)
