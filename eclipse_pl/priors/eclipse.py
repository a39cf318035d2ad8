from __future__ import annotations

from typing import Any

from eclipse_pl.embedding import ClipSpace
from eclipse_pl.priors.direct import DirectPrior
from eclipse_pl.priors.network import PriorNetwork


class EclipsePrior(DirectPrior):
    """ECLIPSE's prior: diffusers' prior transformer without its time token, in one forward pass.

    Args:
        space: CLIP space of captions and image embeddings; it gives all widths.
        num_layers: Number of transformer blocks. Paper: 10 (Table 3).
        num_attention_heads: Heads of each block. Paper: 16.
        attention_head_dim: Width of each head. Paper: 32, which gives an inner width of 512.
        **options: Options of `DirectPrior`.
    """

    network: PriorNetwork

    def __init__(
        self,
        space: ClipSpace,
        num_layers: int = 10,
        num_attention_heads: int = 16,
        attention_head_dim: int = 32,
        **options: Any,
    ) -> None:
        network = PriorNetwork(
            space.dim,
            space.text_width,
            space.context_length,
            num_layers,
            num_attention_heads,
            attention_head_dim,
            text_dim=space.text_dim,
        )
        super().__init__(space, network, **options)
