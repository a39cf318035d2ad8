"""Timing of what buckets cost: a training step on captions whose shapes repeat, against the same captions as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from eclipse_pl.embedding import TextCondition
from eclipse_pl.priors.network import PriorNetwork
from eclipse_pl.speed.inputs import CONTEXT, draw_lengths, random_text
from eclipse_pl.speed.steps import milliseconds
from eclipse_pl.speed.timing import Timing, in_turns_where_memory_suffices, training_step, where_memory_suffices

WINDOW = 16
"""Batches whose captions are sorted by length together, as a window of the loader does."""
TIMED = 4
"""Batches of a window that are timed, from short captions to long ones."""


def padding(name: str, dim: int, device: torch.device, captions: int, **sizes: Any) -> list[Timing]:
    """Time a step of ECLIPSE's network in milliseconds, with `TextCondition.bucketed` captions, and as a peer without.

    The share of rows that are padding is that of a whole window. A step that is compiled or captured gains more than this
    from shapes that repeat; the row says what they cost where nothing is.

    Args:
        name: Name of the row.
        dim: Width of embeddings and token states.
        device: Where it computes.
        captions: Size of a batch.
        **sizes: Sizes of `PriorNetwork`; ECLIPSE's by default.
    """
    torch.manual_seed(0)
    network = PriorNetwork(dim, dim, CONTEXT, **sizes).to(device)
    lengths = grouped_lengths(captions)
    figures = {"share_of_padding": padding_share(lengths, network.extra_tokens)}

    def batches() -> tuple[Tensor, list[TextCondition], list[TextCondition]]:
        plain = [random_text(dim, each).to(device) for each in lengths[:: WINDOW // TIMED]]
        return torch.randn(2, captions, dim, device=device), plain, [text.bucketed(CONTEXT) for text in plain]

    made = where_memory_suffices(batches, device)
    if made is None:
        return [Timing(name, None, None, "ms", figures, "out of memory")]
    (noise, image_embed), plain, bucketed = made

    def steps_on(texts: list[TextCondition]) -> Callable[[], None]:
        current = texts[0]
        step = training_step(network, lambda: F.mse_loss(network(noise, current).float(), image_embed))

        def steps() -> None:
            nonlocal current
            for current in texts:  # noqa: B007  # the loss reads it
                step()

        return steps

    seconds = in_turns_where_memory_suffices([steps_on(bucketed), steps_on(plain)], device)
    ours, peer = (milliseconds(None if taken is None else taken / TIMED) for taken in seconds)
    note = "out of memory" if ours is None or peer is None else ""
    return [Timing(name, ours, peer, "ms", figures, note)]


def grouped_lengths(captions: int) -> list[Int[Tensor, " captions"]]:
    """The lengths of a window's batches of MSCOCO's captions, each batch of similar ones."""
    return list(draw_lengths(WINDOW * captions).sort().values.split(captions))


def padding_share(batches: list[Int[Tensor, " captions"]], extra_tokens: int) -> float:
    """The share of the rows of a network that are padding, over these batches in buckets."""
    texts = [random_text(1, lengths) for lengths in batches]
    padded = [len(text.bucketed(CONTEXT).text_states) for text in texts]
    rows = sum(padded) + sum(extra_tokens * len(text) for text in texts)
    return (sum(padded) - sum(len(text.text_states) for text in texts)) / rows
