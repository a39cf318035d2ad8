"""BestOfPrior: n samples of another prior, of which the one nearest to the caption is taken."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from eclipse_pl.arguments import require_whole
from eclipse_pl.embedding import ClipSpace, EmbeddingBatch, TextCondition, condition_of
from eclipse_pl.priors.named_class import build_named
from eclipse_pl.priors.prior import Prior
from eclipse_pl.priors.wrapped import WrappedPrior


class BestOfPrior(WrappedPrior):
    """Best of n: of n samples, the one with the largest cosine to the text embedding (Ramesh et al. 2022, section 2.2: n = 2).

    Training is that of the other prior. To rerank a prior that is trained, give its run as ``weights`` among ``prior_args``.

    Args:
        space: CLIP space of captions and image embeddings.
        prior: Class of the other prior, such as eclipse_pl.priors.flow.FlowPrior.
        prior_args: Arguments of that class, without the space.
        rerank: Number n of samples. DALL-E 2: 2.

    Raises:
        ValueError: There are fewer than two samples, or the other prior has one prediction for each caption.
    """

    def __init__(self, space: ClipSpace, prior: str, prior_args: dict[str, Any], rerank: int = 2) -> None:
        require_whole("rerank", rerank, 2, ". Without reranking use the prior itself")
        space.require_captions("Reranking by the text embedding", "Use the prior itself.")
        part = {"class_path": prior, "init_args": prior_args}
        made = build_named(part, (Prior,), "The prior to rerank", space=space)
        if made.is_deterministic:
            raise ValueError(
                f"rerank is {rerank}, but all samples of this {type(made).__name__} are equal for one caption. Use a prior "
                "that samples, such as a FlowPrior."
            )
        super().__init__(space, made)
        self.rerank = rerank

    @property
    def forward_passes(self) -> int | None:
        passes = self.prior.forward_passes
        return None if passes is None else self.rerank * passes

    @torch.no_grad()
    def sample(
        self,
        text: TextCondition | EmbeddingBatch,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> Float[Tensor, "batch dim"]:
        """The best of ``rerank`` samples of each caption. The generator draws the noise of one after the other."""
        text = condition_of(text)
        samples = torch.stack([self.prior.sample(text, generator) for _ in range(self.rerank)])
        best = F.cosine_similarity(samples, text.text_embed[None], dim=2).argmax(0)
        return samples.gather(0, best[None, :, None].expand(1, *samples.shape[1:]))[0]
