"""``python -m tests.helpers.compiled_network PRIOR MODE DEVICE``: three steps of a compiled network against the eager one.

In a process of its own: under pytest the checks of shapes stand around every function, and `torch.compile` cannot read them.
"""

from __future__ import annotations

import copy
import sys

import torch
from torch import Tensor

import eclipse_pl.priors
from eclipse_pl.embedding import EmbeddingBatch
from eclipse_pl.priors import Prior
from tests.helpers.card import assert_near, assert_same_gradients
from tests.helpers.every_prior import SIZES, batch_of, build

LENGTHS = [5, 2, 9, 16, 7, 4]


def step(prior: Prior, batch: EmbeddingBatch, seed: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Copies of losses and gradients: a CUDA graph writes the next ones in their place."""
    torch.compiler.cudagraph_mark_step_begin()
    prior.zero_grad()
    torch.manual_seed(seed)
    losses = prior.losses(batch)
    losses["total"].backward()
    gradients = {name: each.grad.clone() for name, each in prior.named_parameters() if each.grad is not None}
    return {name: loss.detach().clone() for name, loss in losses.items()}, gradients


def main(kind: str, mode: str, device: str) -> None:
    """CUDA graphs (``reduce-overhead``) are recorded with the second batch and replayed with the third."""
    eager = build(getattr(eclipse_pl.priors, kind), SIZES).to(device)
    compiled = copy.deepcopy(eager)
    # on the CPU only the logic of this file is looked at
    compiled.network.compile(**({"backend": "eager"} if device == "cpu" else {"mode": mode}))
    for seed in range(3):
        batch = batch_of(LENGTHS, seed).to(device)
        losses, gradients = step(eager, batch, seed)
        their_losses, their_gradients = step(compiled, batch, seed)
        for name, loss in losses.items():
            assert_near(their_losses[name], loss, 1e-3, floor=1e-2, name=name)
        assert_same_gradients(their_gradients, gradients, 2e-3)
    print("equal")


if __name__ == "__main__":
    main(*sys.argv[1:])
