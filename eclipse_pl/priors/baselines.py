"""Priors that need no gradient: the two baselines of every table, and ridge regression in closed form."""

from __future__ import annotations

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, distributed

from eclipse_pl.embedding import ClipSpace, EmbeddingBatch, TextCondition, condition_of
from eclipse_pl.losses import projection_loss
from eclipse_pl.priors.open_saved import open_saved
from eclipse_pl.priors.prior import Prior


class Baseline(Prior):
    """A deterministic function of the pooled text embedding. Its one loss term is Eq. 3, for comparison."""

    @property
    def is_deterministic(self) -> bool:
        return True

    @abstractmethod
    def predict(self, text_embed: Float[Tensor, "batch text_dim"]) -> Float[Tensor, "batch dim"]:
        """The image embedding."""

    @torch.no_grad()
    def losses(self, batch: EmbeddingBatch) -> dict[str, Tensor]:
        projection = projection_loss(self.sample(batch.text), batch.image_embed)
        return {"projection": projection, "total": projection}

    @torch.no_grad()
    def sample(
        self,
        text: TextCondition | EmbeddingBatch,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> Float[Tensor, "batch dim"]:
        """The predictions. A baseline is deterministic, so it does not use the generator.

        Autocast is off: its three digits would change which caption is nearest, and a product in float32 costs little here.
        """
        text_embed = condition_of(text).text_embed
        with torch.autocast(text_embed.device.type, enabled=False):
            return self.predict(text_embed)


class TextAsImagePrior(Baseline):
    """Baseline: the text embedding used as image embedding. Strong on retrieval, which CLIP was trained for.

    Raises:
        ValueError: The space has conditions that are no captions.
    """

    def __init__(self, space: ClipSpace) -> None:
        super().__init__(space)
        space.require_captions("TextAsImagePrior", "Take MeanImagePrior or LinearPrior as the baseline.")

    def predict(self, text_embed: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        return text_embed


class MeanImagePrior(Baseline):
    """Baseline: the mean training image for every caption. Strong on cosine, because CLIP's images lie in a narrow cone."""

    mean: Float[Tensor, " dim"]

    def __init__(self, space: ClipSpace) -> None:
        super().__init__(space)
        self.register_buffer("mean", space.image_mean.clone().float())

    def predict(self, text_embed: Float[Tensor, "batch text_dim"]) -> Float[Tensor, "batch dim"]:
        return self.mean.to(text_embed).expand(len(text_embed), -1)


class LinearPrior(Baseline):
    """Ridge regression from text embedding to image embedding with an intercept, exact, from one pass over the data.

    In training mode `losses` adds each batch to the moments; `end_of_epoch` solves for the weights in float64 over all ranks
    and clears the moments. Before the first solution it predicts the mean image.

    Args:
        space: CLIP space of captions and image embeddings.
        ridge: Penalty as a fraction of the mean eigenvalue of the text embeddings' covariance. One value then means the same
            for any CLIP and any number of pairs. None takes the fraction in 1e-6 ... 1e2 with the least generalised
            cross-validation error (Golub, Heath & Wahba 1979). The moments alone give this error; no second pass is needed.
        weights: Initial weights: a run or one of its checkpoints; see `open_saved`.
    """

    weight: Float[Tensor, "text_dim dim"]
    bias: Float[Tensor, " dim"]
    moments: Float[Tensor, "rows columns"]

    def __init__(self, space: ClipSpace, ridge: float | None = None, weights: str | None = None) -> None:
        super().__init__(space)
        if ridge is not None and not 0 < ridge < float("inf"):
            raise ValueError(
                f"ridge is {ridge}; it must be above 0 (1 halves the weight of an average direction), "
                "or null for the value that generalised cross-validation finds."
            )
        self.ridge = ridge
        self.chosen_ridge = ridge
        """The fraction used by the last solution."""
        dim, text_dim = space.dim, space.text_dim
        self.register_buffer("weight", torch.zeros(text_dim, dim))
        self.register_buffer("bias", space.image_mean.clone().float())
        # [1, text, image]^T [1, text, image] without the image-image block. The last row holds the trace of that block.
        self.register_buffer("moments", torch.zeros(text_dim + 2, text_dim + dim + 1, dtype=torch.float64))
        if weights is not None:
            open_saved(weights).fill(self)

    def predict(self, text_embed: Float[Tensor, "batch text_dim"]) -> Float[Tensor, "batch dim"]:
        return text_embed @ self.weight.to(text_embed) + self.bias.to(text_embed)

    def losses(self, batch: EmbeddingBatch) -> dict[str, Tensor]:
        if self.training:
            self.accumulate(batch)
        return super().losses(batch)

    @torch.no_grad()
    def end_of_epoch(self) -> None:
        """Solve from what all ranks accumulated."""
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(self.moments)
        self.solve()

    @torch.no_grad()
    def accumulate(self, batch: EmbeddingBatch) -> None:
        """Add a batch to the sums of products."""
        text, image = batch.text.text_embed.double(), batch.image_embed.double()
        ones = torch.ones(len(text), 1, dtype=torch.float64, device=text.device)
        left = torch.cat([ones, text], dim=1)
        self.moments[:-1] += left.T @ torch.cat([left, image], dim=1)
        self.moments[-1, 0] += image.square().sum()

    @torch.no_grad()
    def solve(self) -> None:
        """Set the weights from the accumulated moments, then clear the moments.

        Raises:
            ValueError: The moments hold fewer than two pairs.
        """
        moments, text_dim = self.moments.clone(), self.space.text_dim
        self.moments.zero_()
        pairs = float(moments[0, 0])
        if pairs < 2:
            raise ValueError(f"Ridge regression was given {pairs:.0f} pairs; it needs at least two.")
        means = moments[0] / pairs
        text_mean, image_mean = means[1 : text_dim + 1], means[text_dim + 1 :]
        centred = moments[1:-1] / pairs - text_mean[:, None] * means
        covariance, cross = centred[:, 1 : text_dim + 1], centred[:, text_dim + 1 :]
        image_variance = moments[-1, 0] / pairs - image_mean.square().sum()
        eigenvalues, eigenvectors = torch.linalg.eigh(covariance)
        eigenvalues.clamp_(min=0)
        rotated = eigenvectors.T @ cross
        if eigenvalues.mean() <= 1e-12 * text_mean.square().mean():  # all texts are equal; they vary by rounding only
            rotated.zero_()
        unit = eigenvalues.mean().clamp(min=torch.finfo(torch.float64).tiny)
        self.chosen_ridge = self.ridge or _cross_validated(
            eigenvalues / unit, rotated.square().sum(1) / unit, image_variance, pairs
        )
        weight = eigenvectors @ (rotated / (eigenvalues + self.chosen_ridge * unit)[:, None])
        self.weight.copy_(weight)
        self.bias.copy_(image_mean - text_mean @ weight)


def _cross_validated(
    eigenvalues: Float[Tensor, " dim"], power: Float[Tensor, " dim"], variance: Float[Tensor, ""], pairs: float
) -> float:
    """The penalty with the least generalised cross-validation error, all in units of the mean eigenvalue."""
    ridges = torch.logspace(-6, 2, 65, dtype=torch.float64, device=eigenvalues.device)
    gain = 1 / (eigenvalues + ridges[:, None])
    residual = variance - (power * gain * (2 - eigenvalues * gain)).sum(1)
    freedom = 1 - (1 + (eigenvalues * gain).sum(1)) / pairs
    # If parameters outnumber pairs, rounding can make both negative. Such penalties are not candidates.
    error = torch.where((freedom > 1e-6) & (residual > 0), residual / freedom.square(), torch.inf)
    return float(ridges[error.argmin()])
