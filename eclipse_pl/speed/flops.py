"""FLOPs: the count of a training step, and how many a second a device makes in its largest matrix product."""

from __future__ import annotations

from functools import cache

import torch
from jaxtyping import Int
from torch import Tensor

from eclipse_pl.priors.network import PriorNetwork
from eclipse_pl.speed.timing import in_turns


def step_flops(network: PriorNetwork, lengths: Int[Tensor, " captions"]) -> int:
    """FLOPs of the matrix products of forward and backward pass: what the task needs, whatever a kernel computes beside it.

    A product of (m, k) and (k, n) counts 2mkn. With B captions, T text tokens, X extra tokens a caption (3, or 4 with time),
    R = T + XB rows, n the tokens of a caption with the extra ones, inner width I and widths E, W, the forward pass counts

        inputs      2TWI + 4BEI (+ 4BI^2 with time)
        a block     24RI^2 + 4I sum(n^2)                 queries, keys, values, output and feed-forward; attention
        last block  4RI^2 + 20BI^2 + 4I sum(n)           one query a caption
        output      2BIE

    The backward pass counts twice that, without the gradients of the inputs, which nobody asks for. Attention counts all n^2
    products though half of them are masked, as `torch.utils.flop_counter` counts it. The padding of a kernel, a second
    computation of attention in its backward pass, the loss and the optimizer are not counted.

    Args:
        network: Only its sizes are read.
        lengths: Real tokens of each caption.
    """
    text, width, extra = network.encoder_hidden_states_proj, network.proj_in.in_features, network.extra_tokens
    inner, blocks = network.proj_in.out_features, len(network.transformer_blocks)
    captions, tokens = len(lengths), int(lengths.sum())
    rows, sequence = tokens + extra * captions, lengths.long() + extra
    inputs = 2 * tokens * text.in_features * inner + 4 * captions * width * inner
    time = 0 if network.time_embedding is None else 2 * captions * inner**2
    block = 24 * rows * inner**2 + 4 * inner * int(sequence.square().sum())
    last_block = 4 * rows * inner**2 + 20 * captions * inner**2 + 4 * inner * int(sequence.sum())
    forward = inputs + 2 * time + (blocks - 1) * block + last_block + 2 * captions * inner * width
    return 3 * forward - inputs - time


@cache
def matmul_peak(device: torch.device, side: int | None = None) -> float:
    """FLOPs a second of a square matrix product: in bfloat16 on a GPU, in float32 elsewhere, as training computes.

    Args:
        device: Where it is measured, once a process.
        side: Rows and columns; None takes 8192 on a GPU and 1024 elsewhere.
    """
    gpu = device.type == "cuda"
    side = side or (8192 if gpu else 1024)
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16 if gpu else torch.float32) for _ in range(2))
    return 2 * side**3 / in_turns([lambda: left @ right], device, repetitions=5)[0]
