"""One block of the transformer: causal attention over packed captions, and a feed-forward network."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from eclipse_pl.priors.packing import Packing


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
        return self._feed(hidden[-packing.batch :] if last_only else hidden, attended)

    def keys_and_values(
        self, hidden: Float[Tensor, "rows inner"], packing: Packing
    ) -> tuple[Float[Tensor, "sequences heads longest head_dim"], Float[Tensor, "sequences heads longest head_dim"]]:
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
        key, value = self.keys_and_values(rows, packing) if known is None else known
        if last_only:
            # Each caption has one query. It sees all tokens of the caption, and the mask hides the padding after them.
            last = F.pad(self.to_q(rows[-packing.batch :]), (0, 0, 0, packing.sequences - packing.batch))
            query = self._split(last[:, None])
            attended = F.scaled_dot_product_attention(query, key, value, attn_mask=packing.real[:, None, None])
            joined = self._join(attended)[: packing.batch, 0]
        else:
            query = self._split(packing.pad(self.to_q(rows)))
            joined = packing.pack(self._join(F.scaled_dot_product_attention(query, key, value, is_causal=True)))
        out: Tensor = self.to_out[0](joined)
        return out

    def keys_and_values(
        self, rows: Float[Tensor, "rows inner"], packing: Packing
    ) -> tuple[Float[Tensor, "sequences heads longest head_dim"], Float[Tensor, "sequences heads longest head_dim"]]:
        key, value = (self._split(packing.pad(project(rows))) for project in (self.to_k, self.to_v))
        return key, value

    def extend(
        self,
        tokens: Float[Tensor, "batch tokens inner"],
        key: Float[Tensor, "batch heads longest head_dim"],
        value: Float[Tensor, "batch heads longest head_dim"],
        visible: Bool[Tensor, "batch 1 tokens seen"],
        last_only: bool,
    ) -> Float[Tensor, "batch tokens_out inner"]:
        key, value = (
            torch.cat([before, self._split(project(tokens))], dim=2)
            for before, project in ((key, self.to_k), (value, self.to_v))
        )
        if last_only:
            tokens, visible = tokens[:, -1:], visible[:, :, -1:]
        attended = F.scaled_dot_product_attention(self._split(self.to_q(tokens)), key, value, attn_mask=visible)
        out: Tensor = self.to_out[0](self._join(attended))
        return out

    def _split(self, padded: Float[Tensor, "batch length inner"]) -> Float[Tensor, "batch heads length head_dim"]:
        return padded.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _join(self, heads: Float[Tensor, "batch heads length head_dim"]) -> Float[Tensor, "batch length inner"]:
        return heads.transpose(1, 2).flatten(2)


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
