"""Random numbers that belong to pairs: with them the loss of a global batch can be compared between numbers of processes."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from eclipse_pl.embedding import EmbeddingBatch
from eclipse_pl.priors.prior import Prior

DRAWS = {torch.randn, torch.rand, torch.randint}


class _ByPair(TorchFunctionMode):
    """Row i of every draw is a function of pair i and of how many draws came before."""

    def __init__(self, batch: EmbeddingBatch) -> None:
        super().__init__()
        self.pairs, self.draws = batch.index.tolist(), 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function not in DRAWS:
            return function(*args, **(kwargs or {}))
        *bounds, shape = args
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        assert shape[0] == len(self.pairs), "a draw without a row for each pair"
        self.draws += 1
        rows = []
        for pair in self.pairs:
            generator = torch.Generator().manual_seed(pair + 10**6 * self.draws)
            rows.append(function(*bounds, shape[1:], generator=generator))
        return torch.stack(rows)


def draw_by_pair(prior: Prior) -> Prior:
    """``prior``, whose losses draw by pair. A run seeds its draws by rank, so its curve depends on the number of ranks."""
    losses = prior.losses

    def drawn_by_pair(batch: EmbeddingBatch) -> dict[str, torch.Tensor]:
        if not prior.training:
            return losses(batch)
        with _ByPair(batch):
            return losses(batch)

    prior.losses = drawn_by_pair  # type: ignore[method-assign]
    return prior
