"""UnpaddedPacking: attention over packed rows on a GPU, by torch's variable-length kernel, which reads no padding."""

from __future__ import annotations

import inspect
import logging
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Float, Int32
from torch import Tensor
from torch.nn import functional as F

from eclipse_pl.embedding import TextCondition
from eclipse_pl.priors.packing import Packing, take_rows

log = logging.getLogger(__name__)
_said: set[str] = set()


class UnpaddedPacking(Packing):
    """Sequences of rows, one behind another: each caption with its extra tokens, then the padding.

    Padding is cut into sequences too, because the kernel leaves rows outside all sequences as they were in memory, and NaN
    there would reach the weights. Their number follows from numbers of the host, so some of them are empty.
    """

    def __init__(self, text: TextCondition, extra_tokens: int, context_length: int) -> None:
        super().__init__(text, extra_tokens, context_length)
        device = self.ends.device
        ends = self.ends + (self.captions + 1) * extra_tokens
        extras = ends - extra_tokens + torch.arange(extra_tokens, device=device)[:, None]
        self.place = torch.cat([self.rows + self.caption * extra_tokens, extras.flatten()])
        """Place of each row in the sequences."""
        spare = -(-self.most_padding // self.longest)
        padding = ends[-1:] + torch.arange(1, spare + 1, device=device) * self.longest
        whole = torch.cat([ends.new_zeros(1), ends, padding.clamp(max=len(self.place))])
        self.starts: Int32[Tensor, " bounds"] = whole.int()
        """First row of each sequence, and the end of the last one."""
        self.last_places = ends - 1
        # An empty sequence has no query either: the kernel is tried on sequences that have both or neither.
        queries = torch.cat([self.captions.new_ones(self.batch), (whole[self.batch + 1 :] > whole[self.batch : -1]).long()])
        self.last_starts: Int32[Tensor, " bounds"] = F.pad(queries.cumsum(0), (1, 0)).int()
        """First query of each sequence, where the last token of each asks alone."""
        self.spare = spare

    def arranged(self, rows: Float[Tensor, "rows inner"]) -> Float[Tensor, "rows inner"]:
        return torch.empty_like(rows).index_copy_(0, self.place, rows)

    def last(self, rows: Float[Tensor, "rows inner"]) -> Float[Tensor, "batch inner"]:
        return take_rows(rows, self.last_places)

    def by_heads(self, rows: Float[Tensor, "rows inner"], heads: int) -> Float[Tensor, "rows heads head_dim"]:
        return rows.unflatten(1, (heads, -1))

    def attend(
        self,
        query: Float[Tensor, "queries inner"],
        keys: Float[Tensor, "rows heads head_dim"],
        values: Float[Tensor, "rows heads head_dim"],
        last_only: bool,
    ) -> Float[Tensor, "queries inner"]:
        heads, starts, longest = keys.shape[1], self.starts, self.longest
        if last_only:
            queries = self.by_heads(F.pad(query, (0, 0, 0, self.spare)), heads)
            return call_kernel(queries, keys, values, self.last_starts, starts, 1, longest)[: self.batch].flatten(1)
        causal: dict[str, Any] = {"window_size": (-1, 0)} if takes_window() else {"is_causal": True}
        return call_kernel(self.by_heads(query, heads), keys, values, starts, starts, longest, longest, **causal).flatten(1)


def call_kernel(*arguments: Any, **options: Any) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn  # takes a second, which --help does not need

    out: Any = varlen_attn(*arguments, **options)
    assert isinstance(out, Tensor)  # without return_aux
    return out


def takes_window() -> bool:
    """Whether the kernel is told to be causal by a window. That of torch 2.10 has another option."""
    from torch.nn.attention.varlen import varlen_attn

    return "window_size" in inspect.signature(varlen_attn).parameters


def needs_padding(device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    """Whether attention must pad captions on this device. On a GPU the reason is logged once in a process."""
    reason = reason_to_pad(device, dtype, head_dim)
    if reason and device.type == "cuda" and reason not in _said:
        _said.add(reason)
        log.warning("Attention pads captions on this GPU, which takes longer: %s", reason)
    return reason is not None


def reason_to_pad(device: torch.device, dtype: torch.dtype, head_dim: int) -> str | None:
    if device.type != "cuda":
        return "the kernel without padding is one of CUDA."
    if dtype not in (torch.bfloat16, torch.float16):
        return "the kernel without padding takes half precision only. Set trainer.precision to bf16-mixed."
    if head_dim % 8 or head_dim > 256:
        return f"the kernel without padding takes heads whose width is a multiple of 8, up to 256, and here it is {head_dim}."
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "the kernel without padding needs a GPU of the Ampere generation (A100, RTX 30) or a later one."
    if find_spec("torch.nn.attention.varlen") is None:
        return f"torch {torch.__version__} has no kernel without padding. Install torch 2.11 or newer."
    return None


# What torch.compiler.assume_constant_result does: a compiled step asks once. That function would import the compiler here.
takes_window._dynamo_marked_constant = needs_padding._dynamo_marked_constant = True  # type: ignore[attr-defined]
