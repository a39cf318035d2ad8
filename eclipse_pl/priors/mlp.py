from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from eclipse_pl.arguments import require_whole
from eclipse_pl.embedding import ClipSpace, TextCondition
from eclipse_pl.priors.block import FeedForward
from eclipse_pl.priors.direct import DirectPrior
from eclipse_pl.priors.standardised import StandardisedNetwork


class MLPPrior(DirectPrior):
    """ECLIPSE's training rule for a network that reads only the pooled text embedding. It tests if a prior needs the tokens.

    Args:
        space: CLIP space of captions and image embeddings.
        num_layers: Number of residual blocks. 15 blocks of width 512 have the size of ECLIPSE's transformer.
        width: Width between blocks; each block is four times as wide inside.
        **options: Options of `DirectPrior`.
    """

    def __init__(self, space: ClipSpace, num_layers: int = 15, width: int = 512, **options: Any) -> None:
        super().__init__(space, PooledNetwork(space.dim, space.text_dim, num_layers, width), **options)


class PooledNetwork(StandardisedNetwork):
    """Residual feed-forward blocks over the sum of projected text embedding and projected noise."""

    def __init__(self, dim: int, text_dim: int, num_layers: int, width: int) -> None:
        super().__init__(dim)
        for name, size in {"num_layers": num_layers, "width": width}.items():
            require_whole(name, size, 1, " (default: 15 layers of width 512)")
        self.embedding_proj = nn.Linear(text_dim, width)
        self.proj_in = nn.Linear(dim, width)
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(width), FeedForward(width)) for _ in range(num_layers))
        self.norm_out = nn.LayerNorm(width)
        self.proj_to_clip_embeddings = nn.Linear(width, dim)

    def forward(self, noise: Float[Tensor, "batch dim"], text: TextCondition) -> Float[Tensor, "batch dim"]:
        """Predicted image embedding, standardised by ``clip_mean`` and ``clip_std``."""
        hidden = self.embedding_proj(text.text_embed) + self.proj_in(noise)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        predicted: Tensor = self.proj_to_clip_embeddings(self.norm_out(hidden))
        return predicted
