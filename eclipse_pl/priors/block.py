"""One block of the transformer: causal attention over packed captions, and a feed-forward network."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from eclipse_pl.priors.packing import Packing, join, split


class Block(nn.Module):
    """Pre-norm self-attention and feed-forward, diffusers' ``BasicTransformerBlock`` without cross-attention."""

    def __init__(self, inner: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(inner)
        self.attn1 = Attention(inner, heads)
        self.norm3 = nn.LayerNorm(inner)
        self.ff = FeedForward(inner)

    def forward(
        self,
        hidden: Float[Tensor, "rows inner"],
        packing: Packing,
        last_only: bool = False,
        known: tuple[Tensor, Tensor] | None = None,
    ) -> Float[Tensor, "rows_out inner"]:
        """All rows, or with ``last_only`` only the last token of each caption.

        The network reads only the last token of the last block. ``known`` are the `keys_and_values` of the same rows.
        """
        attended = self.attn1(self.norm1(hidden), packing, last_only, known)
        return self._feed(packing.last(hidden) if last_only else hidden, attended)

    def keys_and_values(
        self, hidden: Float[Tensor, "rows inner"], packing: Packing
    ) -> tuple[Float[Tensor, "*by_heads"], Float[Tensor, "*by_heads"]]:
        """In the form that ``packing`` gives them."""
        return self.attn1.keys_and_values(self.norm1(hidden), packing)

    def extend(
        self,
        tokens: Float[Tensor, "batch tokens inner"],
        key: Float[Tensor, "batch heads longest head_dim"],
        value: Float[Tensor, "batch heads longest head_dim"],
        visible: Bool[Tensor, "batch 1 tokens seen"],
        last_only: bool = False,
    ) -> Float[Tensor, "batch tokens_out inner"]:
        """Process tokens that follow a sequence. Only the keys and values of that sequence are needed."""
        attended = self.attn1.extend(self.norm1(tokens), key, value, visible, last_only)
        return self._feed(tokens[:, -1:] if last_only else tokens, attended)

    def _feed(
        self, hidden: Float[Tensor, "*rows inner"], attended: Float[Tensor, "*rows inner"]
    ) -> Float[Tensor, "*rows inner"]:
        hidden = hidden + attended
        after: Tensor = hidden + self.ff(self.norm3(hidden))
        return after


class Attention(nn.Module):
    """Causal self-attention. Queries, keys and values are computed for real tokens only."""

    def __init__(self, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(inner, inner)
        self.to_k = nn.Linear(inner, inner)
        self.to_v = nn.Linear(inner, inner)
        self.to_out = nn.ModuleList([nn.Linear(inner, inner)])

    def forward(
        self, rows: Float[Tensor, "rows inner"], packing: Packing, last_only: bool, known: tuple[Tensor, Tensor] | None
    ) -> Float[Tensor, "rows_out inner"]:
        query = self.to_q(packing.last(rows) if last_only else rows)
        keys, values = self.keys_and_values(rows, packing) if known is None else known
        out: Tensor = self.to_out[0](packing.attend(query, keys, values, last_only))
        return out

    def keys_and_values(
        self, rows: Float[Tensor, "rows inner"], packing: Packing
    ) -> tuple[Float[Tensor, "*by_heads"], Float[Tensor, "*by_heads"]]:
        keys, values = (packing.by_heads(project(rows), self.heads) for project in (self.to_k, self.to_v))
        return keys, values

    def extend(
        self,
        tokens: Float[Tensor, "batch tokens inner"],
        key: Float[Tensor, "batch heads longest head_dim"],
        value: Float[Tensor, "batch heads longest head_dim"],
        visible: Bool[Tensor, "batch 1 tokens seen"],
        last_only: bool,
    ) -> Float[Tensor, "batch tokens_out inner"]:
        key, value = (
            torch.cat([before, split(project(tokens), self.heads)], dim=2)
            for before, project in ((key, self.to_k), (value, self.to_v))
        )
        if last_only:
            tokens, visible = tokens[:, -1:], visible[:, :, -1:]
        attended = F.scaled_dot_product_attention(split(self.to_q(tokens), self.heads), key, value, attn_mask=visible)
        out: Tensor = self.to_out[0](join(attended))
        return out


class FeedForward(nn.Module):
    """Two projections with exact GELU between them; the inner width is four times the outer width."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        # The identity replaces diffusers' dropout (0 in every published prior) and keeps the names `net.0.proj` and `net.2`.
        self.net = nn.Sequential(ProjectGELU(inner, 4 * inner), nn.Identity(), nn.Linear(4 * inner, inner))

    def forward(self, rows: Float[Tensor, "*rows inner"]) -> Float[Tensor, "*rows inner"]:
        out: Tensor = self.net(rows)
        return out


class ProjectGELU(nn.Module):
    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inner, outer)

    def forward(self, rows: Float[Tensor, "*rows inner"]) -> Float[Tensor, "*rows outer"]:
        return F.gelu(self.proj(rows))
