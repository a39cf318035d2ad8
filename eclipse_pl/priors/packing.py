"""Packing: captions without padding, and the place of each token in the padded sequences that attention reads."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from eclipse_pl.embedding import TextCondition


class Packing:
    """The places of the rows of a packed batch in right-padded sequences of ``longest`` tokens.

    The rows are the text tokens of all captions, one caption after another. The first extra token of each caption follows,
    then the second of each, and so on. The last ``batch`` rows are therefore the last tokens of all captions.
    """

    def __init__(self, text: TextCondition, extra_tokens: int, context_length: int) -> None:
        lengths, tokens = text.lengths, len(text.text_states)
        # A single copy to the host: each forward pass waits for the device once.
        shortest, longest, total = torch.stack([*lengths.aminmax(), lengths.sum()]).tolist()
        if longest > context_length:
            raise ValueError(
                f"A caption has {longest} tokens; this network reads at most {context_length}. Encode captions with the "
                "encoder of the prior's own space: it truncates them as CLIP does."
            )
        if total != tokens or shortest < 0:
            raise ValueError(f"The lengths of the captions add up to {total} tokens, but there are {tokens} text states.")
        self.batch = len(lengths)
        self.longest = longest + extra_tokens
        device = lengths.device
        captions = torch.arange(self.batch, device=device)
        first = lengths.cumsum(0) - lengths
        caption = captions.repeat_interleave(lengths, output_size=tokens)
        self.position: Int[Tensor, "tokens"] = torch.arange(tokens, device=device) - first[caption]
        """Place of each text token in its caption."""
        start = captions * self.longest
        extra = start + lengths + torch.arange(extra_tokens, device=device)[:, None]
        self.place: Int[Tensor, " rows"] = torch.cat([start[caption] + self.position, extra.flatten()])
        """Place of each row in the flattened right-padded sequences."""
        self.real: Bool[Tensor, "batch longest"] = (
            torch.arange(self.longest, device=device) < (lengths + extra_tokens)[:, None]
        )
        """True where a right-padded sequence holds a token."""

    def pad(self, rows: Float[Tensor, "rows inner"]) -> Float[Tensor, "batch longest inner"]:
        padded = rows.new_zeros(self.batch * self.longest, rows.shape[1]).index_copy(0, self.place, rows)
        return padded.view(self.batch, self.longest, -1)

    def pack(self, padded: Float[Tensor, "batch longest inner"]) -> Float[Tensor, "rows inner"]:
        packed: Tensor = _Pack.apply(padded.flatten(0, 1), self.place)
        return packed


class _Pack(torch.autograd.Function):
    """``index_select`` of distinct rows. The backward of torch adds row by row, because rows may repeat; it is much slower."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, place: Tensor) -> Tensor:
        ctx.save_for_backward(place)
        ctx.shape = padded.shape
        return padded.index_select(0, place)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (place,) = ctx.saved_tensors
        return grad.new_zeros(ctx.shape).index_copy(0, place, grad), None
