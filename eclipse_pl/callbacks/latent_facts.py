"""How a latent table was made, so that it can be compared with another: see `eclipse_pl.reports.fairness`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from jaxtyping import Int
from torch import Tensor

from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.device import describe_machine
from eclipse_pl.files import atomic_path
from eclipse_pl.latent.metrics import VERSION
from eclipse_pl.lit_prior import LitPrior


def facts_of(trainer: L.Trainer, module: LitPrior, index: Int[Tensor, " pairs"], own: int) -> dict[str, Any]:
    """The facts of a measurement: the prior, the pairs, and the cost of sampling.

    ``index`` numbers all pairs that were measured, and ``own`` counts those that this rank predicted itself.

    Training's own cost is in metrics.csv: ``samples_seen`` and ``train_seconds``.
    """
    data, prior = trainer.datamodule, module.prior  # type: ignore[attr-defined]
    assert isinstance(data, EmbeddingDataModule)
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in prior.parameters()]
    return {
        "command": str(trainer.state.fn.value) if trainer.state.fn else "",
        "metrics_version": VERSION,
        "schedule_steps": module.schedule_steps,
        "pairs": len(index),
        "pairs_sha256": digest_of_pairs(index.numpy()),
        "shards": {
            "folder": data.shards.name,
            "sha256": data.shards.manifest.digest,
            "pairs": data.shards.manifest.splits,
            "space": data.space.identity,
        },
        "training_data": module.training_data,
        "prior": {
            "class": f"{type(prior).__module__}.{type(prior).__qualname__}",
            "trained_parameters": sum(size for size, trained in sizes if trained),
            "parameters": sum(size for size, _ in sizes),
            "contrastive_weight": getattr(prior, "contrastive_weight", None),
            "relative_weight": getattr(prior, "relative_weight", None),
        },
        "sampling": {
            "forward_passes": prior.forward_passes,
            "seconds_per_1000": 1000 * module.sampling_seconds / max(own, 1),
        },
        "machine": describe_machine(module.device),
    }


def digest_of_pairs(index: np.ndarray) -> str:
    """SHA-256 of the numbers of the pairs that were measured, in their order."""
    return hashlib.sha256(index.astype("<i8").tobytes()).hexdigest()


def write_pairs(path: Path, columns: dict[str, Any]) -> None:
    """One array a column; atomic."""
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    assert not any(array.dtype.hasobject for array in arrays.values()), "objects would be pickled"
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
