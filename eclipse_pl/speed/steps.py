"""Timings of a training step of `PriorNetwork` against diffusers' ``PriorTransformer`` with the same weights and batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from eclipse_pl.device import free_memory
from eclipse_pl.embedding import TextCondition
from eclipse_pl.priors.network import PriorNetwork
from eclipse_pl.speed.flops import matmul_peak, step_flops
from eclipse_pl.speed.inputs import CONTEXT, draw_lengths, padded, random_text
from eclipse_pl.speed.timing import (
    Timing,
    in_turns_where_memory_suffices,
    peak_memory_gb,
    training_step,
    where_memory_suffices,
)

OUT_OF_MEMORY = "{} out of memory"


def steps(
    name: str,
    dim: int,
    device: torch.device,
    batches: Sequence[int],
    compiled: bool = False,
    layers: int = 10,
    heads: int = 16,
    head_dim: int = 32,
) -> Iterator[Timing]:
    """Time forward pass, squared error, backward pass and AdamW in milliseconds, one row for each batch size.

    On a GPU both compute in bfloat16 by autocast, elsewhere in float32. Both networks have the time token, which diffusers'
    class always has. Padding for diffusers happens before the timing. A size for which memory does not suffice is a row too.

    Args:
        name: Name of the rows, before the number of captions.
        dim: Width of embeddings and token states.
        device: Where both compute.
        batches: Numbers of captions.
        compiled: Compile both with `torch.compile`.
        layers: Number of transformer blocks of both.
        heads: Heads of each block.
        head_dim: Width of each head.
    """
    ours, peer = networks(dim, device, layers, heads, head_dim)
    run_ours, run_peer = (torch.compile(network) if compiled else network for network in (ours, peer))
    for captions in batches:
        row = f"{name}/{captions}" + ("/compiled" if compiled else "")
        batch = where_memory_suffices(partial(Inputs, dim, device, captions), device)
        if batch is None:
            yield no_batch(row)
            continue
        functions = [training_step(ours, batch.loss_of_ours(run_ours)), training_step(peer, batch.loss_of_peer(run_peer))]
        yield timing(row, functions, step_flops(ours, batch.text.lengths), captions, device)
        del batch, functions
        free_memory(device)


def padded_step(name: str, dim: int, device: torch.device, captions: int, **sizes: int) -> Iterator[Timing]:
    """Time our network with captions of 77 tokens against diffusers'. The gain over this row is that of packing."""
    ours, peer = networks(dim, device, **sizes)
    row = f"{name}/{captions}/padded-{CONTEXT}"
    batch = where_memory_suffices(partial(Inputs, dim, device, captions), device)
    if batch is None:
        yield no_batch(row)
        return
    lengths = torch.full_like(batch.text.lengths, CONTEXT)
    full = TextCondition(batch.text.text_embed, batch.states.flatten(0, 1), lengths, (CONTEXT, CONTEXT))
    functions = [
        training_step(ours, batch.loss_of_ours(ours, full)),
        training_step(peer, batch.loss_of_peer(peer)),
    ]
    yield timing(row, functions, step_flops(ours, full.lengths), captions, device)


def networks(
    dim: int, device: torch.device, layers: int = 10, heads: int = 16, head_dim: int = 32
) -> tuple[PriorNetwork, Any]:
    """Ours and diffusers', with the same weights; all of diffusers' that have a gradient are used."""
    from diffusers import PriorTransformer

    torch.manual_seed(0)
    ours = PriorNetwork(dim, dim, CONTEXT, layers, heads, head_dim, time_embedding=True).to(device)
    peer = PriorTransformer(heads, head_dim, layers, dim).to(device)
    peer.load_state_dict(ours.state_dict())
    for statistic in (peer.clip_mean, peer.clip_std):
        statistic.requires_grad_(False)
    return ours, peer


class Inputs:
    """A random batch of captions of MSCOCO's lengths, packed and padded.

    Args:
        dim: Width of embeddings and token states.
        device: Where the batch is.
        captions: Size of the batch.
    """

    def __init__(self, dim: int, device: torch.device, captions: int) -> None:
        self.text = random_text(dim, draw_lengths(captions)).to(device)
        self.states, self.mask = padded(self.text)
        self.noise, self.image_embed = torch.randn(2, captions, dim, device=device)
        self.times = torch.randint(0, 1000, (captions,), device=device)

    def loss_of_ours(self, network: Callable[..., Any], text: TextCondition | None = None) -> Callable[[], Tensor]:
        """The squared error of our network; ``text`` in place of the batch's."""
        read = self.text if text is None else text
        return lambda: F.mse_loss(network(self.noise, read, self.times).float(), self.image_embed)

    def loss_of_peer(self, network: Callable[..., Any]) -> Callable[[], Tensor]:
        """The squared error of diffusers' network."""

        def loss() -> Tensor:
            made = network(self.noise, self.times, self.text.text_embed, self.states, self.mask)
            return F.mse_loss(made.predicted_image_embedding.float(), self.image_embed)

        return loss


def timing(name: str, functions: Sequence[Callable[[], None]], flops: int, captions: int, device: torch.device) -> Timing:
    """The row of two steps, ours first: its milliseconds, and its rate, its FLOPs and its memory as figures."""
    ours, peer = in_turns_where_memory_suffices(functions, device)
    lacking = [OUT_OF_MEMORY.format(who) for who, taken in (("ours", ours), ("peer", peer)) if taken is None]
    figures: dict[str, float | None] = {}
    if ours is not None:
        figures["samples_per_second"] = captions / ours
        figures["tflop_per_second"] = flops / ours / 1e12
        figures["share_of_peak"] = flops / ours / matmul_peak(device)
        figures["peak_memory_gb"] = peak_memory_gb(functions[0], device)
    if peer is not None:
        figures["peer_peak_memory_gb"] = peak_memory_gb(functions[1], device)
    known = {figure: value for figure, value in figures.items() if value is not None}
    return Timing(name, milliseconds(ours), milliseconds(peer), "ms", known, ", ".join(lacking))


def no_batch(name: str) -> Timing:
    """The row of a size for whose batch alone memory does not suffice."""
    return Timing(name, None, None, "ms", note=", ".join(OUT_OF_MEMORY.format(who) for who in ("ours", "peer")))


def milliseconds(seconds: float | None) -> float | None:
    """None where nothing was measured."""
    return None if seconds is None else 1e3 * seconds
