"""Packing: captions without padding, and the place of each token in the padded sequences that attention reads."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from eclipse_pl.embedding import TextCondition


class Packing:
    """The places of the rows of a packed batch in right-padded sequences of ``longest`` tokens.

    The rows are the text tokens of all captions, one caption after another, then rows of padding if there are any. The first
    extra token of each caption follows, then the second of each, and so on. The last ``batch`` rows are therefore the last
    tokens of all captions. If the text has ``bounds``, every size here follows from numbers of the host. There may be padding
    then, so a spare sequence stands behind those of the captions, and holds it. Nobody reads the spare one.
    """

    def __init__(self, text: TextCondition, extra_tokens: int, context_length: int) -> None:
        lengths, tokens = text.lengths, len(text.text_states)
        _, longest = text.bounds or text.read_bounds()
        if longest > context_length:
            raise ValueError(
                f"A caption has {longest} tokens; this network reads at most {context_length}. Encode captions with the "
                "encoder of the prior's own space: it truncates them as CLIP does."
            )
        self.batch = len(lengths)
        self.sequences = self.batch + (text.bounds is not None)
        self.longest = longest + extra_tokens
        device = lengths.device
        ends = lengths.cumsum(0)
        rows = torch.arange(tokens, device=device)
        caption = torch.searchsorted(ends, rows, right=True)  # padding belongs to the spare sequence, which begins at the end
        self.position: Int[Tensor, "tokens"] = (rows - F.pad(ends, (1, 0))[caption]) % self.longest
        """Place of each text token in its caption. Padding may be longer than the spare sequence, and then shares places."""
        extra = torch.arange(self.batch, device=device) * self.longest + lengths
        extras = extra + torch.arange(extra_tokens, device=device)[:, None]
        self.place: Int[Tensor, " rows"] = torch.cat([caption * self.longest + self.position, extras.flatten()])
        """Place of each row in the flattened right-padded sequences."""
        filled = F.pad(lengths + extra_tokens, (0, self.sequences - self.batch), value=self.longest)
        self.real: Bool[Tensor, "sequences longest"] = torch.arange(self.longest, device=device) < filled[:, None]
        """True where a right-padded sequence holds a token, and in all of the spare one."""

    def pad(self, rows: Float[Tensor, "rows inner"]) -> Float[Tensor, "sequences longest inner"]:
        padded = rows.new_zeros(self.sequences * self.longest, rows.shape[1]).index_copy_(0, self.place, rows)
        return padded.view(self.sequences, self.longest, -1)

    def pack(self, padded: Float[Tensor, "sequences longest inner"]) -> Float[Tensor, "rows inner"]:
        packed: Tensor = _Pack.apply(padded.flatten(0, 1), self.place)
        return packed


class _Pack(torch.autograd.Function):
    """``index_select`` of rows that are distinct, or padding without gradient.

    The backward of torch adds row by row, because rows may repeat. It is much slower.
    """

    @staticmethod
    def forward(ctx: Any, padded: Tensor, place: Tensor) -> Tensor:
        ctx.save_for_backward(place)
        ctx.shape = padded.shape
        return padded.index_select(0, place)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (place,) = ctx.saved_tensors
        return grad.new_zeros(ctx.shape).index_copy_(0, place, grad), None
