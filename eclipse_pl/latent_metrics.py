"""What can be measured without a decoder (tier A). No single number is enough, and each says what it must not be used for.

A constant (the mean image embedding) has a high cosine and finds nothing; the text embedding finds nearly everything and lies
far from every image embedding. A good prior beats the first on retrieval and the second on distance, so they are read together
and beside both floors and the ceiling. Retrieval depends on the number of pairs: compare it only within one split.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from eclipse_pl.embedding import EmbeddingBatch

VERSION = 1
"""Raised whenever a metric changes its meaning: numbers of different versions are not compared."""

RECALLS = (1, 5, 10)
ALL = "all"


@dataclass(frozen=True, eq=False)
class Predictions:
    """A prior's image embeddings for every pair of a split, beside the truth, in the order of the set of shards."""

    predicted: Float[Tensor, "pairs dim"]
    image_embed: Float[Tensor, "pairs dim"]
    text_embed: Float[Tensor, "pairs dim"]
    negative_embed: Float[Tensor, "pairs dim"]
    """NaN rows where a pair has no counterpart with two attributes swapped."""
    index: Tensor
    subsets: list[str]

    @classmethod
    def of_batch(cls, predicted: Float[Tensor, "batch dim"], batch: EmbeddingBatch) -> Predictions:
        negative = batch.negative_embed
        return cls(
            predicted.float().cpu(),
            batch.image_embed.float().cpu(),
            batch.text.text_embed.float().cpu(),
            torch.full_like(batch.image_embed, torch.nan).float().cpu() if negative is None else negative.float().cpu(),
            batch.index.cpu(),
            batch.subsets or [""] * len(batch),
        )

    @classmethod
    def join(cls, parts: list[Predictions]) -> Predictions:
        """Batches of all ranks as one, sorted by index, so that sums do not depend on who computed what."""
        index = torch.cat([part.index for part in parts])
        order = index.argsort()
        names = [name for part in parts for name in part.subsets]

        def column(name: str) -> Tensor:
            return torch.cat([getattr(part, name) for part in parts])[order]

        return cls(
            column("predicted"),
            column("image_embed"),
            column("text_embed"),
            column("negative_embed"),
            index[order],
            [names[row] for row in order.tolist()],
        )

    def replace(self, predicted: Float[Tensor, "pairs dim"]) -> Predictions:
        """The same pairs, predicted by something else."""
        return Predictions(predicted, self.image_embed, self.text_embed, self.negative_embed, self.index, self.subsets)


def measure(predictions: Predictions, image_mean: Float[Tensor, " dim"]) -> dict[str, dict[str, float]]:
    """{subset: {metric: value}}; the first subset, "all", is the whole split.

    Retrieval of every subset searches the whole split, so that subsets of different sizes can be compared.
    """
    return means(measure_pairs(predictions, image_mean), predictions.subsets)


def measure_pairs(predictions: Predictions, image_mean: Float[Tensor, " dim"]) -> dict[str, Float[Tensor, " pairs"]]:
    """Every metric of every pair. ``rank`` is what retrieval is made of, ``mse`` the mean over dimensions."""
    predicted, image = predictions.predicted, predictions.image_embed
    return {
        "cosine": cosine_similarity(predicted, image),
        "centred_cosine": centred_cosine(predicted, image, image_mean),
        "mse": (predicted - image).square().mean(-1),
        "text_cosine": cosine_similarity(predicted, predictions.text_embed),
        "norm": predicted.norm(dim=-1),
        "rank": retrieval_ranks(predicted, image),
        "hard_negative": hard_negative(predicted, image, predictions.negative_embed),
    }


def means(pairs: dict[str, Float[Tensor, " pairs"]], subsets: list[str]) -> dict[str, dict[str, float]]:
    """Means of `measure_pairs` over the whole split, and over each subset where there are several."""
    named = sorted({name for name in subsets if name})
    rows = {ALL: torch.ones(len(subsets), dtype=torch.bool)}
    if len(named) > 1:
        rows |= {subset: torch.tensor([name == subset for name in subsets]) for subset in named}
    return {subset: _means({name: values[taken] for name, values in pairs.items()}) for subset, taken in rows.items()}


def _means(pairs: dict[str, Tensor]) -> dict[str, float]:
    averaged = ("cosine", "centred_cosine", "mse", "text_cosine", "norm")
    values = {name: pairs[name].mean() for name in averaged}
    values |= {f"R@{k}": (pairs["rank"] < k).float().mean() for k in RECALLS}
    values["hard_negative"] = pairs["hard_negative"].nanmean()
    return {name: value.item() for name, value in values.items()}


def centred_cosine(
    predicted: Float[Tensor, "pairs dim"], image: Float[Tensor, "pairs dim"], image_mean: Float[Tensor, " dim"]
) -> Float[Tensor, " pairs"]:
    """Cosine after the mean image embedding is subtracted from both: 0 for a constant, whose plain cosine is high.

    Do not compare it between data sets: it depends on how varied their pictures are.
    """
    return cosine_similarity(predicted - image_mean, image - image_mean)


def retrieval_ranks(
    predicted: Float[Tensor, "pairs dim"], image: Float[Tensor, "pairs dim"], rows_at_once: int = 1024
) -> Float[Tensor, " pairs"]:
    """How many other pictures of the split lie nearer to each prediction than its own picture, by cosine; ties count half.

    The text embedding is strong here, because CLIP was trained for just this: a prior below it has not failed. NaN where a
    prediction is not finite: it finds nothing.
    """
    gallery = normalize(image, dim=-1)
    ranks = []
    for start in range(0, len(predicted), rows_at_once):
        similarity = normalize(predicted[start : start + rows_at_once], dim=-1) @ gallery.T
        own = similarity.diagonal(start)[:, None]
        nearer = (similarity > own).sum(-1)
        tied = (similarity == own).sum(-1) - 1
        ranks.append((nearer + tied / 2).where(own[:, 0].isfinite(), torch.nan))
    return torch.cat(ranks)


def hard_negative(
    predicted: Float[Tensor, "pairs dim"], image: Float[Tensor, "pairs dim"], negative: Float[Tensor, "pairs dim"]
) -> Float[Tensor, " pairs"]:
    """1 where a prediction is nearer to its picture than to that with two attributes swapped; ties count half.

    Chance is 0.5. NaN where a pair has no counterpart. It asks for binding only: a prediction far from all pictures can be
    right.
    """
    own = cosine_similarity(predicted, image)
    swapped = cosine_similarity(predicted, negative)
    nearer = (own > swapped).float() + (own == swapped).float() / 2
    return nearer.where(negative.isfinite().all(-1), torch.nan)
