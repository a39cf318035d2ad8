"""WrappedPrior: a prior that trains and samples by another one."""

from __future__ import annotations

from torch import Tensor

from eclipse_pl.embedding import ClipSpace, EmbeddingBatch
from eclipse_pl.priors.prior import Prior


class WrappedPrior(Prior):
    """Base class of priors that change how another one is trained or sampled. What they don't change is that of the other.

    Args:
        space: CLIP space of captions and image embeddings.
        prior: The other prior.
    """

    def __init__(self, space: ClipSpace, prior: Prior) -> None:
        super().__init__(space)
        self.prior, self.trained_on = prior, prior.trained_on

    @property
    def trained_for(self) -> dict[str, str | int | float | bool]:
        return self.prior.trained_for

    @property
    def sampling(self) -> dict[str, int | float | str]:
        return self.prior.sampling

    @property
    def forward_passes(self) -> int | None:
        return self.prior.forward_passes

    @property
    def has_losses(self) -> bool:
        return self.prior.has_losses

    @property
    def compiles_whole(self) -> bool:
        return self.prior.compiles_whole

    @property
    def contrastive_weight(self) -> float | None:
        """None where the other prior has none."""
        weight: float | None = getattr(self.prior, "contrastive_weight", None)
        return weight

    @property
    def relative_weight(self) -> float | None:
        """None where the other prior has none."""
        weight: float | None = getattr(self.prior, "relative_weight", None)
        return weight

    def losses(self, batch: EmbeddingBatch) -> dict[str, Tensor]:
        """Those of the other prior."""
        return self.prior.losses(batch)

    def end_of_epoch(self) -> None:
        self.prior.end_of_epoch()
