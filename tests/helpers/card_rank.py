"""``python -m tests.helpers.card_rank RANK RANKS FOLDER DEVICE``: three steps of a prior in one of several processes.

All are on one card and talk by gloo, because NCCL wants a card for each. Rank 0 leaves its losses and weights in
``FOLDER/RANKS.pt``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from eclipse_pl.embedding import EmbeddingBatch, TextCondition
from eclipse_pl.priors import EclipsePrior, Prior
from tests.helpers.every_prior import SIZES, batch_of, build

HALVES = [[5, 2, 9, 16], [7, 4, 3, 8]]


class Losses(nn.Module):
    """The total loss as a forward pass, which is what DDP follows."""

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, batch: EmbeddingBatch) -> Tensor:
        return self.prior.losses(batch)["total"]


def batches(seed: int) -> list[EmbeddingBatch]:
    """The two halves of one batch."""
    return [batch_of(lengths, seed=10 * seed + half) for half, lengths in enumerate(HALVES)]


def joined(halves: list[EmbeddingBatch]) -> EmbeddingBatch:
    text = TextCondition.join([half.text for half in halves])
    return EmbeddingBatch(text, torch.cat([half.image_embed for half in halves]), torch.arange(len(text)))


def train(rank: int, ranks: int, folder: Path, device: str) -> None:
    """With negatives of all ranks and one graph; SGD, because Adam makes steps of the rounding of zero gradients."""
    model: nn.Module = Losses(build(EclipsePrior, {**SIZES, "noise": "zero"}).to(device))
    if ranks > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=ranks)
        model = DistributedDataParallel(model, static_graph=True, gradient_as_bucket_view=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0e-3)
    losses = []
    for seed in range(3):
        halves = batches(seed)
        optimizer.zero_grad()
        loss = model((joined(halves) if ranks == 1 else halves[rank]).to(device))
        loss.backward()
        optimizer.step()
        mean = loss.detach().clone()
        if ranks > 1:
            dist.all_reduce(mean)
        losses.append(mean.cpu() / ranks)
    if rank == 0:
        state = {name.removeprefix("module."): tensor.cpu() for name, tensor in model.state_dict().items()}
        torch.save({"losses": torch.stack(losses), "state": state}, folder / f"{ranks}.pt")
    if ranks > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    train(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
