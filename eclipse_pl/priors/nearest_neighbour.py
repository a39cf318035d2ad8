"""NearestNeighbourPrior: the image embedding of the training pair whose caption is nearest."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from eclipse_pl.arguments import require_whole
from eclipse_pl.embedding import ClipSpace, EmbeddingBatch
from eclipse_pl.priors.baselines import Baseline
from eclipse_pl.priors.open_saved import open_saved


class NearestNeighbourPrior(Baseline):
    """Baseline: retrieval. Every prediction is a true image embedding, of the caption with the largest cosine.

    In training mode `losses` adds each batch to the bank until it is full; `end_of_epoch` opens the bank. Batches are
    shuffled, so a bank smaller than the training split is a random part of it. Before the end of a pass it predicts the mean
    image.

    Args:
        space: CLIP space of captions and image embeddings.
        bank: Number of training pairs that are kept. Embeddings are kept in float16, as in shards.
        weights: Initial bank: a run or one of its checkpoints; see `open_saved`. Training replaces it.

    Raises:
        ValueError: The bank is empty.
    """

    texts: Float[Tensor, "bank text_dim"]
    images: Float[Tensor, "bank dim"]
    mean: Float[Tensor, " dim"]
    kept: Int[Tensor, "2"]
    """``added`` and ``usable``, for checkpoints. The host has both, so that reading them waits for nothing."""

    def __init__(self, space: ClipSpace, bank: int = 20_000, weights: str | None = None) -> None:
        super().__init__(space)
        require_whole("bank", bank, 1, " (default: 20000 pairs)")
        for name, width in (("texts", space.text_dim), ("images", space.dim)):
            self.register_buffer(name, torch.zeros(bank, width, dtype=torch.float16))
        self.register_buffer("mean", space.image_mean.clone().float())
        self.register_buffer("kept", torch.zeros(2, dtype=torch.int64))
        self.added = 0
        """Pairs that the running pass has added."""
        self.usable = 0
        """Pairs of the bank that predictions may use."""
        if weights is not None:
            open_saved(weights).fill(self)

    def predict(self, text_embed: Float[Tensor, "batch text_dim"]) -> Float[Tensor, "batch dim"]:
        if not self.usable:
            return self.mean.to(text_embed).expand(len(text_embed), -1)
        bank = F.normalize(self.texts[: self.usable].to(text_embed), dim=1)
        nearest = (F.normalize(text_embed, dim=1) @ bank.T).argmax(1)  # a caption's norm does not change its order
        return self.images[nearest].to(text_embed)

    def losses(self, batch: EmbeddingBatch) -> dict[str, Tensor]:
        if self.training:
            self.keep(batch)
        return super().losses(batch)

    @torch.no_grad()
    def end_of_epoch(self) -> None:
        """Let predictions use what the pass has added. The next batch begins a new bank."""
        self._count(0, self.added)

    @torch.no_grad()
    def keep(self, batch: EmbeddingBatch) -> None:
        """Add the pairs of a batch, as long as there is room."""
        following = min(self.added + len(batch), len(self.images))
        count = following - self.added
        self.texts[self.added : following] = batch.text.text_embed[:count].to(self.texts)
        self.images[self.added : following] = batch.image_embed[:count].to(self.images)
        self._count(following, 0)

    def _count(self, added: int, usable: int) -> None:
        self.added, self.usable = added, usable
        self.kept[0].fill_(added)
        self.kept[1].fill_(usable)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        if f"{prefix}kept" in state_dict:
            self.added, self.usable = state_dict[f"{prefix}kept"].tolist()
