"""The latent table of any prior, without a config."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.loggers.logger import DummyLogger

from eclipse_pl.arguments import one_of
from eclipse_pl.callbacks.latent import LatentEvaluation, Rows
from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.lit_prior import LitPrior, no_optimizer
from eclipse_pl.priors.prior import Prior


def measure(
    prior: Prior,
    data: str | EmbeddingDataModule,
    split: Literal["val", "test"] = "val",
    ridge_pairs: int = 100_000,
) -> Rows:
    """Print the latent table of a prior, and return it: ``{row: {subset: {metric: value}}}``.

    The numbers are those of ``validate`` (or ``test``); `eclipse_pl.latent.metrics` explains them. Nothing is
    written. A prior on a GPU is measured there; every prior is on its device afterwards.

    Args:
        prior: Any prior.
        data: The folder of a set of shards, or its data module.
        split: The pairs to measure on.
        ridge_pairs: Training pairs of the row of ridge regression; 0 leaves the row out.

    Raises:
        ValueError: The shards are of another space than the prior, or have no such split, or it is one of no measurement.
    """
    one_of("split", split, ("val", "test"))  # any other word would measure the test pairs
    module = EmbeddingDataModule(data, workers=0) if isinstance(data, str) else data
    prior.space.require_same(module.space, "the prior", f"the shards {module.shards.name}")
    latent = LatentEvaluation(ridge_pairs)
    device = next(iter(prior.state_dict().values()), module.space.image_mean).device
    trainer = L.Trainer(
        **place_of(device),
        logger=DummyLogger(),
        callbacks=[latent],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
    )
    run = trainer.validate if split == "val" else trainer.test
    with back_on(device, prior):
        run(LitPrior(prior, no_optimizer), module, verbose=False)
    return latent.rows


def place_of(device: torch.device) -> dict[str, Any]:
    """The Trainer's options for this GPU; for the CPU on any other device."""
    if device.type == "cuda":
        return {"accelerator": "gpu", "devices": [device.index or 0]}
    return {"accelerator": "cpu", "devices": 1}


@contextmanager
def back_on(device: torch.device, prior: Prior) -> Iterator[None]:
    """The prior is on this device afterwards, and the current GPU is what it was: a Trainer ends on the CPU, and makes its
    GPU the current one."""
    current = torch.cuda.current_device() if device.type == "cuda" else None
    try:
        yield
    finally:
        prior.to(device)
        if current is not None:
            torch.cuda.set_device(current)
