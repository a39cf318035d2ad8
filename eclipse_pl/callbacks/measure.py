"""The latent table of any prior, without a config."""

from __future__ import annotations

from typing import Literal

import lightning as L
from lightning.pytorch.loggers.logger import DummyLogger

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
    written.

    Args:
        prior: Any prior.
        data: The folder of a set of shards, or its data module.
        split: The pairs to measure on.
        ridge_pairs: Training pairs of the row of ridge regression; 0 leaves the row out.

    Raises:
        ValueError: The shards are of another space than the prior, or have no such split.
    """
    module = EmbeddingDataModule(data, workers=0) if isinstance(data, str) else data
    prior.space.require_same(module.space, "the prior", f"the shards {module.shards.name}")
    latent = LatentEvaluation(ridge_pairs)
    trainer = L.Trainer(
        accelerator="auto" if next(iter(prior.state_dict().values()), module.space.image_mean).is_cuda else "cpu",
        devices=1,
        logger=DummyLogger(),
        callbacks=[latent],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
    )
    run = trainer.validate if split == "val" else trainer.test
    run(LitPrior(prior, no_optimizer), module, verbose=False)
    return latent.rows
