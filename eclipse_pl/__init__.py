"""Train and compare text-to-image priors: caption -> CLIP image embedding."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eclipse_pl.callbacks.measure import measure
    from eclipse_pl.commands.benchmark import benchmark
    from eclipse_pl.commands.part import load_part
    from eclipse_pl.data.datamodule import EmbeddingDataModule
    from eclipse_pl.embedding import ClipSpace, TextCondition
    from eclipse_pl.lit_prior import LitPrior
    from eclipse_pl.loading import load_decoder, load_encoder, load_prior
    from eclipse_pl.losses import contrastive_loss, projection_loss
    from eclipse_pl.priors.diffusion import DiffusionPrior
    from eclipse_pl.priors.eclipse import EclipsePrior
    from eclipse_pl.priors.flow import FlowPrior
    from eclipse_pl.reports.report import compare

__version__ = "0.1.0"

__all__ = [
    "ClipSpace",
    "DiffusionPrior",
    "EclipsePrior",
    "EmbeddingDataModule",
    "FlowPrior",
    "LitPrior",
    "TextCondition",
    "__version__",
    "benchmark",
    "compare",
    "contrastive_loss",
    "load_decoder",
    "load_encoder",
    "load_part",
    "load_prior",
    "measure",
    "projection_loss",
]

_PLACES = {
    "ClipSpace": "embedding",
    "DiffusionPrior": "priors.diffusion",
    "EclipsePrior": "priors.eclipse",
    "EmbeddingDataModule": "data.datamodule",
    "FlowPrior": "priors.flow",
    "LitPrior": "lit_prior",
    "TextCondition": "embedding",
    "benchmark": "commands.benchmark",
    "compare": "reports.report",
    "contrastive_loss": "losses",
    "load_decoder": "loading",
    "load_encoder": "loading",
    "load_part": "commands.part",
    "load_prior": "loading",
    "measure": "callbacks.measure",
    "projection_loss": "losses",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: `import eclipse_pl` alone loads neither torch nor Lightning."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
