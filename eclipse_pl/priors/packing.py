"""Packing: captions without padding, and attention over them in right-padded sequences."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from eclipse_pl.embedding import TextCondition


class Packing(ABC):
    """The rows of a packed batch: text tokens and extra tokens of all captions, without padding between them.

    The network makes the rows in this order: the text tokens of all captions, one caption after another, then rows of padding
    if there are any, then the first extra token of each caption, the second of each, and so on. If the text has ``bounds``,
    every size follows from numbers of the host, so the host does not wait for a GPU.
    """

    def __init__(self, text: TextCondition, extra_tokens: int, context_length: int) -> None:
        shortest, longest = text.bounds or text.read_bounds()
        if longest > context_length:
            raise ValueError(
                f"A caption has {longest} tokens; this network reads at most {context_length}. Encode captions with the "
                "encoder of the prior's own space: it truncates them as CLIP does."
            )
        self.batch, self.tokens = len(text), len(text.text_states)
        self.extra_tokens = extra_tokens
        self.longest = longest + extra_tokens
        """Most tokens of a sequence."""
        self.most_padding = 0 if text.bounds is None else self.tokens - self.batch * shortest
        """Most rows of padding that there can be. Nobody reads them, and no gradient reaches them."""
        device = text.lengths.device
        self.lengths, self.ends = text.lengths, text.lengths.cumsum(0)
        self.captions: Int[Tensor, " batch"] = torch.arange(self.batch, device=device)
        self.rows: Int[Tensor, " tokens"] = torch.arange(self.tokens, device=device)
        self.caption: Int[Tensor, " tokens"] = torch.searchsorted(self.ends, self.rows, right=True)
        """The caption of each text token; for padding the number of captions."""
        # Padding may be longer than a sequence. It then shares places.
        self.position: Int[Tensor, " tokens"] = (self.rows - F.pad(self.ends, (1, 0))[self.caption]) % self.longest
        """Place of each text token in its caption."""

    @abstractmethod
    def arranged(self, rows: Float[Tensor, "rows inner"]) -> Float[Tensor, "rows inner"]:
        """The rows in the order that attention reads."""

    @abstractmethod
    def last(self, rows: Float[Tensor, "rows inner"]) -> Float[Tensor, "batch inner"]:
        """The last token of each caption."""

    @abstractmethod
    def by_heads(self, rows: Float[Tensor, "rows inner"], heads: int) -> Float[Tensor, "*by_heads"]:
        """Keys or values in the form that `attend` takes."""

    @abstractmethod
    def attend(
        self,
        query: Float[Tensor, "queries inner"],
        keys: Float[Tensor, "*by_heads"],
        values: Float[Tensor, "*by_heads"],
        last_only: bool,
    ) -> Float[Tensor, "queries inner"]:
        """Causal attention within each caption. ``query`` has a row for each row, or for the `last` ones."""


class PaddedPacking(Packing):
    """The places of the rows in right-padded sequences of ``longest`` tokens, where the causal mask hides the padding.

    If the text may hold padding, a spare sequence stands behind those of the captions, and holds it.
    """

    def __init__(self, text: TextCondition, extra_tokens: int, context_length: int) -> None:
        super().__init__(text, extra_tokens, context_length)
        self.spare = int(self.most_padding > 0)
        self.sequences = self.batch + self.spare
        places = torch.arange(self.longest, device=self.ends.device)
        extras = self.captions * self.longest + self.lengths + places[:extra_tokens, None]
        self.place: Int[Tensor, " rows"] = torch.cat([self.caption * self.longest + self.position, extras.flatten()])
        """Place of each row in the flattened right-padded sequences."""
        filled = F.pad(self.lengths + extra_tokens, (0, self.spare), value=self.longest)
        self.real: Bool[Tensor, "sequences longest"] = places < filled[:, None]
        """True where a right-padded sequence holds a token, and in all of the spare one."""

    def arranged(self, rows: Float[Tensor, "rows inner"]) -> Float[Tensor, "rows inner"]:
        return rows

    def last(self, rows: Float[Tensor, "rows inner"]) -> Float[Tensor, "batch inner"]:
        return rows[-self.batch :]

    def by_heads(self, rows: Float[Tensor, "rows inner"], heads: int) -> Float[Tensor, "sequences heads longest head_dim"]:
        return split(self.pad(rows), heads)

    def attend(
        self,
        query: Float[Tensor, "queries inner"],
        keys: Float[Tensor, "sequences heads longest head_dim"],
        values: Float[Tensor, "sequences heads longest head_dim"],
        last_only: bool,
    ) -> Float[Tensor, "queries inner"]:
        heads = keys.shape[1]
        if last_only:
            # Each caption has one query. It sees all tokens of the caption, and the mask hides the padding after them.
            queries = split(F.pad(query, (0, 0, 0, self.spare))[:, None], heads)
            attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=self.real[:, None, None])
            return join(attended)[: self.batch, 0]
        attended = F.scaled_dot_product_attention(self.by_heads(query, heads), keys, values, is_causal=True)
        return take_rows(join(attended).flatten(0, 1), self.place)

    def pad(self, rows: Float[Tensor, "rows inner"]) -> Float[Tensor, "sequences longest inner"]:
        padded = rows.new_zeros(self.sequences * self.longest, rows.shape[1]).index_copy_(0, self.place, rows)
        return padded.view(self.sequences, self.longest, -1)


def split(padded: Float[Tensor, "batch length inner"], heads: int) -> Float[Tensor, "batch heads length head_dim"]:
    return padded.unflatten(2, (heads, -1)).transpose(1, 2)


def join(heads: Float[Tensor, "batch heads length head_dim"]) -> Float[Tensor, "batch length inner"]:
    return heads.transpose(1, 2).flatten(2)


def take_rows(rows: Float[Tensor, "rows inner"], places: Int[Tensor, " places"]) -> Float[Tensor, "places inner"]:
    """``index_select`` of rows that are distinct, or padding without gradient.

    The backward of torch adds row by row, because rows may repeat. It is much slower.
    """
    taken: Tensor = _TakeRows.apply(rows, places)
    return taken


class _TakeRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.shape = rows.shape
        return rows.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        return grad.new_zeros(ctx.shape).index_copy_(0, places, grad), None
