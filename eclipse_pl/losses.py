"""The two terms of ECLIPSE's loss (Patel et al., CVPR 2024, arXiv 2312.04655, Eq. 3 to 5) and what may replace the first.

All are pure functions, and computed in float32 under autocast. At a temperature of 0.01, bfloat16's error of 0.4 % in a
cosine becomes an error of 0.4 in a logit.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, distributed
from torch.nn import functional as F

from eclipse_pl.arguments import one_of

Reduction = Literal["mean", "sum"]

LEAST_SQUARE = 1e-6
"""Added to squared distances before their root, whose gradient at zero is infinite."""


def projection_loss(
    prediction: Float[Tensor, "batch dim"], image_embed: Float[Tensor, "batch dim"], reduction: Reduction = "mean"
) -> Float[Tensor, ""]:
    """Eq. 3: squared distance of prediction and true image embedding, averaged over the batch.

    ``sum`` is Eq. 3 as printed, a squared norm; ``mean`` divides it by the number of dimensions, as ``mse_loss`` does. The
    paper does not state which its code used. The effect of the contrastive weight depends on this choice.
    """
    one_of("reduction", reduction, ("mean", "sum"))
    squares = F.mse_loss(prediction.float(), image_embed.float(), reduction="none")
    return (squares.mean(1) if reduction == "mean" else squares.sum(1)).mean()


def cosine_loss(prediction: Float[Tensor, "batch dim"], image_embed: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
    """``1 - cosine`` of prediction and true image embedding, averaged over the batch (SEED-X's default). The norm is free."""
    return 1 - F.cosine_similarity(prediction.float(), image_embed.float(), dim=1).mean()


def energy_score(
    samples: Float[Tensor, "samples batch dim"],
    image_embed: Float[Tensor, "batch dim"],
    beta: float = 1.0,
    reduction: Reduction = "mean",
) -> Float[Tensor, ""]:
    """Energy score of n samples a caption (Gneiting & Raftery 2007, Eq. 22), averaged over the batch.

    ``1/n sum_i |x_i - x|^beta - 1/(2 n (n-1)) sum_{i != j} |x_i - x_j|^beta``. It is strictly proper for beta in (0, 2): of
    all distributions of samples, the true one of a caption's images has the least expected score. One true image a caption is
    enough, and n = 2 gives an unbiased estimate (EAR: Shao et al. 2025, 2505.07812).

    Args:
        samples: Independent predictions for each caption.
        image_embed: The true image embeddings.
        beta: Exponent of the distances.
        reduction: "sum": distances are Euclidean. "mean": their squares are divided by the number of dimensions first, as in
            `projection_loss`, so that the contrastive weight keeps its meaning.
    """
    one_of("reduction", reduction, ("mean", "sum"))
    drawn, truth = samples.float(), image_embed.float()

    def distance(one: Float[Tensor, "batch dim"], other: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
        squares = (one - other).square()
        squares = squares.mean(1) if reduction == "mean" else squares.sum(1)
        return (squares + LEAST_SQUARE).pow(beta / 2).mean()

    to_truth = [distance(one, truth) for one in drawn]
    between = [distance(one, other) for one, other in combinations(drawn, 2)]
    return torch.stack(to_truth).mean() - torch.stack(between).mean() / 2


def contrastive_loss(
    rows: Float[Tensor, "batch dim"],
    columns: Float[Tensor, "columns dim"],
    temperature: float | Float[Tensor, ""],
    positives: Int[Tensor, " batch"] | None = None,
    ignored: Bool[Tensor, "batch columns"] | None = None,
    hard_negatives: Float[Tensor, "negatives dim"] | None = None,
) -> Float[Tensor, ""]:
    """Eq. 4: cross-entropy of each row's own column among all columns. Logits are cosine similarities over temperature.

    In the paper rows are the predictions and columns the text embeddings of the batch, in this direction only.

    Args:
        rows: Embeddings that search.
        columns: Embeddings that are searched.
        temperature: Divisor of the cosines.
        positives: The column that belongs to each row; by default row i belongs to column i.
        ignored: True if a column is a false negative of a row (see `duplicates`). The positive of a row always counts.
        hard_negatives: Further columns, which belong to no row (NegCLIP: Yuksekgonul et al. 2023, 2210.01936). One of NaN is
            left out. A row leaves out one that equals its own column: captions with swapped attributes may be captions of
            other pairs.
    """
    if positives is None:
        positives = torch.arange(len(rows), device=rows.device)
    if hard_negatives is not None:
        absent = hard_negatives.isnan().any(1)
        # zeros in place of NaN, whose gradient would be NaN in masked columns too
        further = hard_negatives.masked_fill(absent[:, None], 0)
        if ignored is None:
            ignored = torch.zeros(len(rows), len(columns), dtype=torch.bool, device=rows.device)
        ignored = torch.cat([ignored, absent | duplicates(columns[positives], further)], dim=1)
        columns = torch.cat([columns, further.to(columns.dtype)])
    with torch.autocast(rows.device.type, enabled=False):
        cosines = F.normalize(rows.float(), dim=1) @ F.normalize(columns.float(), dim=1).T
        logits = cosines / temperature
        if ignored is not None:
            logits = logits.masked_fill(ignored.scatter(1, positives[:, None], False), -torch.inf)
        return F.cross_entropy(logits, positives)


def duplicates(
    targets: Float[Tensor, "batch dim"], columns: Float[Tensor, "columns dim"], tolerance: float = 1e-5
) -> Bool[Tensor, "batch columns"]:
    """True if a column is a false negative: it equals a row's own target, with 1 - cosine below ``tolerance``.

    MSCOCO has five captions for each image, and alt-texts of the web repeat. The paper does not mention them.
    """
    with torch.autocast(targets.device.type, enabled=False):
        return F.normalize(targets.float(), dim=1) @ F.normalize(columns.float(), dim=1).T > 1 - tolerance


def gather_ranks(rows: Shaped[Tensor, "batch ..."]) -> Shaped[Tensor, "columns ..."]:
    """The rows of all ranks, rank 0's first; ``rows`` itself without torch.distributed. All ranks must have the same number.

    For constants (text and image embeddings) this is one gather. For predictions the gradient of every rank's loss flows
    back to the rank that made the row, summed over ranks. With each rank's loss a mean over its own rows, and gradients
    averaged over ranks as DistributedDataParallel does, 2 ranks of B pairs then equal 1 rank of 2B.
    """
    if not _distributed():
        return rows
    gathered: Tensor = _GatherRanks.apply(rows.contiguous())
    return gathered


def first_of_rank(batch: int) -> int:
    """Index of this rank's first row in `gather_ranks` of ``batch`` rows for each rank."""
    return batch * distributed.get_rank() if _distributed() else 0


class _GatherRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.batch = len(rows)
        parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        summed = grad.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(summed)
        return summed.narrow(0, first_of_rank(ctx.batch), ctx.batch)


def _distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
