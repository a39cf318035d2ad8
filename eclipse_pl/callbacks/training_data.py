from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.files import write_json
from eclipse_pl.lit_prior import LitPrior, has_gradient

TRAINING_DATA_FILE = "training_data.json"


class TrainingDataRecord(L.Callback):
    """Keeps which sets of shards a run trains on, by the hash of their manifests, wherever they lie.

    From the start of a fit it is in ``training_data.json`` of the run's folder and in the module, which takes it into
    checkpoints. A run that is resumed on other shards was trained on both, and so was one that began with the weights of a run
    on other shards. Released priors do not state theirs.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Before a checkpoint is loaded, which states its own."""
        assert isinstance(pl_module, LitPrior)
        prior = pl_module.prior
        # a fit in closed form keeps nothing of the weights that it began with
        kept = stage != "fit" or has_gradient(prior)
        if kept and not pl_module.training_data:
            pl_module.training_data = list(prior.trained_on)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(pl_module, LitPrior) and isinstance(data, EmbeddingDataModule)
        known, current = pl_module.training_data, identity_of(data)
        if not known or known[-1]["sha256"] != current["sha256"]:
            if known:
                rank_zero_info(
                    f"These weights were trained on {known[-1]['folder']}; now they are trained on other shards, "
                    f"{current['folder']}."
                )
            pl_module.training_data = [*known, current]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, LitPrior)
        folder = trainer.log_dir  # rank 0 broadcasts it, so every rank must read it
        if trainer.is_global_zero and folder is not None:
            write_json(Path(folder) / TRAINING_DATA_FILE, pl_module.training_data)


def identity_of(data: EmbeddingDataModule) -> dict[str, Any]:
    """The set that a run trains on. ``teacher`` is there if its image embeddings are the samples of a prior."""
    manifest = data.shards.manifest
    identity = {"folder": data.shards.name, "sha256": manifest.digest, "pairs": manifest.splits.get("train", 0)}
    return identity | ({"teacher": manifest.teacher} if manifest.teacher else {})
