"""Metrics of embeddings, without a decoder (tier A). No single number is enough, and each metric states its limits.

A constant (the mean image embedding) has a high cosine, but its retrieval is at chance. The text embedding has a high
retrieval, but it is far from every image embedding. A good prior beats the first on retrieval and the second on distance.
Read all metrics together, next to both baselines and the upper bound. Retrieval depends on the number of images: compare it
only within one split. The text embedding is strong there, because CLIP was trained for it. A prior with a lower value has
not failed.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cosine_similarity

from eclipse_pl.arguments import near
from eclipse_pl.data.subset_names import ALL
from eclipse_pl.embedding import EmbeddingBatch
from eclipse_pl.latent.distribution import OF_CAPTIONS, OF_SETS
from eclipse_pl.latent.retrieval import Gallery

VERSION = 2
"""Increased when a metric changes its meaning. Numbers of different versions are not compared."""

RECALLS = (1, 5, 10)
AVERAGED = ("cosine", "centred_cosine", "mse", "text_cosine", "norm")
METRICS = (*AVERAGED, *(f"R@{k}" for k in RECALLS), "hard_negative")
"""The names of all metrics of a split."""
COUNTERS = ("train_kwh_gpu", "train_kwh_cpu")
"""Energy of training: of GPUs; of processors and their memory."""
UNGROUPED = ("lr", "samples_per_second", "samples_seen", "train_seconds", "waiting_for_data", *COUNTERS)
"""Metrics of a run that belong to no split."""

LABELS = {
    "mean_image": "mean image (baseline)",
    "text_as_image": "text as image (baseline)",
    "upper_bound": "upper bound",
}
"""Printed labels of rows, if they differ from the names."""


@dataclass(frozen=True, eq=False)
class Measured:
    """Metrics of some pairs of a split, one value a pair."""

    index: Int[Tensor, " pairs"]
    group: Int[Tensor, " pairs"]
    """Equal if pairs show one image."""
    subsets: list[str]
    values: dict[str, Float[Tensor, " pairs"]]
    predicted: Float[Tensor, "pairs dim"] | None = None
    """The predictions, where the metrics of their distribution are asked for."""

    @classmethod
    def of(
        cls,
        predicted: Float[Tensor, "batch dim"],
        batch: EmbeddingBatch,
        image_mean: Float[Tensor, " dim"],
        captions: bool = True,
        keep: bool = False,
        **more: Float[Tensor, " batch"],
    ) -> Measured:
        """`measure_pairs` of a batch and the ``more`` values, all on the CPU. ``keep`` keeps the predictions too."""
        values = measure_pairs(predicted, batch, image_mean, captions) | more
        return cls(
            batch.index.cpu(),
            batch.index.cpu() if batch.group is None else batch.group.cpu(),
            batch.subsets or [""] * len(batch),
            {name: value.cpu() for name, value in values.items()},
            predicted.float().cpu() if keep else None,
        )

    @classmethod
    def concatenated(cls, parts: list[Measured]) -> Measured:
        return cls(
            torch.cat([part.index for part in parts]),
            torch.cat([part.group for part in parts]),
            [name for part in parts for name in part.subsets],
            {name: torch.cat([part.values[name] for part in parts]) for name in parts[0].values},
            None if parts[0].predicted is None else torch.cat([_kept(part) for part in parts]),
        )

    @classmethod
    def join(cls, parts: list[Measured]) -> Measured:
        """The metrics of all ranks, sorted by index, so that sums do not depend on the ranks."""
        whole = cls.concatenated(parts)
        order = whole.index.argsort()
        values = {name: column[order] for name, column in whole.values.items()}
        subsets = [whole.subsets[row] for row in order.tolist()]
        predicted = None if whole.predicted is None else whole.predicted[order]
        return cls(whole.index[order], whole.group[order], subsets, values, predicted)

    def means(self) -> dict[str, dict[str, float]]:
        return means(self.values, self.subsets)


def _kept(part: Measured) -> Float[Tensor, "pairs dim"]:
    assert part.predicted is not None
    return part.predicted


def measure(
    predicted: Float[Tensor, "pairs dim"], batch: EmbeddingBatch, image_mean: Float[Tensor, " dim"]
) -> dict[str, dict[str, float]]:
    """{subset: {metric: value}} of a split that is one batch; the first subset, "all", is the whole split.

    Retrieval for a subset searches the whole split, so that subsets of different sizes can be compared. One prediction a pair
    has no distribution: of several samples a pair see `eclipse_pl.latent.distribution.measure_samples`, which is per pair.
    """
    group = batch.index if batch.group is None else batch.group
    rank = Gallery(batch.image_embed, group, predicted.device).ranks(predicted, torch.arange(len(batch)))
    return Measured.of(predicted, batch, image_mean, rank=rank).means()


def measure_pairs(
    predicted: Float[Tensor, "batch dim"], batch: EmbeddingBatch, image_mean: Float[Tensor, " dim"], captions: bool = True
) -> dict[str, Float[Tensor, " batch"]]:
    """Every metric that needs only the pair itself, on the device of the batch. ``mse`` is the mean over dimensions.

    ``text_cosine`` is NaN without ``captions``, which says that ``text_embed`` is a condition of another kind.
    Retrieval needs ``rank``, which depends on all images of the split: see `Gallery`.
    """
    predicted, image, mean = predicted.float(), batch.image_embed.float(), image_mean.to(predicted.device)
    nothing = torch.full_like(image, torch.nan)
    return {
        "cosine": cosine_similarity(predicted, image),
        "centred_cosine": centred_cosine(predicted, image, mean),
        "mse": (predicted - image).square().mean(-1),
        "text_cosine": cosine_similarity(predicted, batch.text.text_embed.float() if captions else nothing),
        "norm": predicted.norm(dim=-1),
        "hard_negative": hard_negative(
            predicted, image, nothing if batch.negative_embed is None else batch.negative_embed.float()
        ),
    }


def require_metric(option: str, name: str, others: bool = False) -> None:
    """Raise ValueError if no run logs a metric of this name. An unknown name can be a loss of a prior.

    ``others``: callbacks of the user may log metrics of another first word.
    """
    known = [f"val/{metric}" for metric in (*METRICS, *OF_CAPTIONS, *OF_SETS)]
    first, slash, _ = name.partition("/")
    if first not in ("val", "train", "benchmark", *UNGROUPED) and not (others and slash):
        raise ValueError(
            f"{option} is {name}, which is no metric: names begin with val/, train/ or benchmark/."
            f"{near(f'val/{name}', known) or ' Take val/cosine.'}"
        )
    typo = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
    if typo and name not in known and name.count("/") == 1:
        raise ValueError(f"{option} is {name}, which is no metric. Near it: {typo[0]}.")


def means(pairs: dict[str, Float[Tensor, " pairs"]], subsets: list[str]) -> dict[str, dict[str, float]]:
    """Means of `measure_pairs` over the whole split, and over each subset if there are several."""
    rows = rows_of(subsets)
    return {subset: _means({name: values[taken] for name, values in pairs.items()}) for subset, taken in rows.items()}


def rows_of(subsets: list[str]) -> dict[str, Bool[Tensor, " pairs"]]:
    """The pairs of the whole split, and those of each subset if there are several."""
    named = sorted({name for name in subsets if name})
    rows = {ALL: torch.ones(len(subsets), dtype=torch.bool)}
    if len(named) > 1:
        rows |= {subset: torch.tensor([name == subset for name in subsets]) for subset in named}
    return rows


def _means(pairs: dict[str, Tensor]) -> dict[str, float]:
    values = {name: pairs[name].mean() for name in AVERAGED}
    values |= {f"R@{k}": (pairs["rank"] < k).float().mean() for k in RECALLS}
    values["hard_negative"] = pairs["hard_negative"].nanmean()
    return {name: value.item() for name, value in values.items()}


def centred_cosine(
    predicted: Float[Tensor, "pairs dim"], image: Float[Tensor, "pairs dim"], image_mean: Float[Tensor, " dim"]
) -> Float[Tensor, " pairs"]:
    """Cosine after the mean image embedding is subtracted from both: 0 for a constant, whose plain cosine is high.

    Do not compare it between data sets, because it depends on the variety of their images.
    """
    return cosine_similarity(predicted - image_mean, image - image_mean)


def hard_negative(
    predicted: Float[Tensor, "pairs dim"], image: Float[Tensor, "pairs dim"], negative: Float[Tensor, "pairs dim"]
) -> Float[Tensor, " pairs"]:
    """1 if a prediction is nearer to its image than to the image with two attributes swapped; ties count half.

    Chance is 0.5. NaN if a pair has no counterpart. It measures binding only: a prediction far from all images can be
    right.
    """
    own = cosine_similarity(predicted, image)
    swapped = cosine_similarity(predicted, negative)
    nearer = (own > swapped).float() + (own == swapped).float() / 2
    return nearer.where(negative.isfinite().all(-1), torch.nan)
