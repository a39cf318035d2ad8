"""The other rows of the prior's latent table: both baselines, ridge regression and the upper bound."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import lightning as L
import numpy as np
import torch
from jaxtyping import Float, Int
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.embedding import EmbeddingBatch
from eclipse_pl.latent.distribution import measure_samples
from eclipse_pl.latent.metrics import Measured
from eclipse_pl.latent.retrieval import Gallery
from eclipse_pl.priors.baselines import LinearPrior, MeanImagePrior, TextAsImagePrior
from eclipse_pl.priors.prior import Prior
from eclipse_pl.world.datamodule import WorldDataModule

ROWS_AT_ONCE = 4096
WIDEST_RIDGE = 4096
"""Widest condition that ridge regression is solved for: this takes a few hundred MB and tens of seconds."""


def other_rows(
    trainer: L.Trainer,
    data: EmbeddingDataModule,
    own: Int[Tensor, " pairs"],
    measured: Int[Tensor, " all"],
    gallery: Gallery,
    ridge_pairs: int,
    distribution: bool = False,
    redrawn: Float[Tensor, "pairs redraws dim"] | None = None,
    samples: int = 0,
) -> dict[str, Measured]:
    """{row: metrics of the pairs ``own``, which are some of those that were ``measured``}; every rank must ask.

    With ``distribution`` they have the metrics of samples too. All samples of a caption are equal in these rows, but for the
    upper bound's, which are images that were ``redrawn`` for the sorted pairs, if there are any. The highest cosine depends on
    the number of samples, so it is that of ``samples`` of them.
    """
    space, device = data.space, gallery.images.device
    baselines: dict[str, Prior] = {"mean_image": MeanImagePrior(space)}
    if space.has_captions:
        baselines["text_as_image"] = TextAsImagePrior(space)
    else:
        without = "text as image and text_cosine"
        rank_zero_info(f"{data.shards.name} has conditions that are no captions: the table goes without {without}.")
    if ridge_pairs and (ridge := fitted_ridge(trainer, data, ridge_pairs)):
        baselines["ridge"] = ridge
    rows = {name: prior.to(device) for name, prior in baselines.items()} | {"upper_bound": None}
    parts: dict[str, list[Measured]] = {name: [] for name in rows}
    for number, index in enumerate(own.sort().values.split(ROWS_AT_ONCE)):
        batch = read_pairs(data.shards, index, with_captions=True).to(device)
        for name, prior in rows.items():
            predicted = batch.image_embed if prior is None else prior.sample(batch.text)
            rank = gallery.ranks(predicted, torch.searchsorted(measured, index))
            drawn = predicted[:, None].expand(-1, 2, -1)
            if prior is None and redrawn is not None:
                drawn = redrawn[number * ROWS_AT_ONCE :][: len(index)].to(predicted)
            more = measure_samples(drawn, batch.image_embed) if distribution else {}
            if distribution and drawn.shape[1] > samples:
                more["best_cosine"] = measure_samples(drawn[:, :samples], batch.image_embed)["best_cosine"]
            captions = space.has_captions
            found = Measured.of(predicted, batch, space.image_mean, captions, False, rank=rank, **more)
            parts[name].append(replace(found, predicted=drawn[:, 0].float().cpu()) if distribution else found)
    return {name: Measured.join(found) for name, found in parts.items()}


def redrawn_images(
    data: EmbeddingDataModule, split: str, own: Int[Tensor, " pairs"], measured: Int[Tensor, " all"], count: int
) -> Float[Tensor, "pairs count dim"]:
    """Embeddings of images that are drawn anew for the captions of the pairs ``own``, sorted; every rank must ask.

    Those of all pairs that were ``measured`` are made together, once.
    """
    assert isinstance(data, WorldDataModule)
    captions: list[str] = []
    for index in measured.split(ROWS_AT_ONCE):
        captions += read_pairs(data.shards, index, with_captions=True).captions or []
    places = torch.searchsorted(measured, own.sort().values)
    return torch.from_numpy(data.redrawn(captions, split, count))[places]


def fitted_ridge(trainer: L.Trainer, data: EmbeddingDataModule, pairs: int) -> LinearPrior | None:
    """Ridge regression on that many training pairs, by the first rank for all; None without two, or if they are too wide."""
    held = data.shards.manifest.splits.get("train", 0)
    used = held if data.pairs is None else min(held, data.pairs)
    if used < 2:  # every rank sees it; the first alone would fail, and the others wait for it
        count = "one training pair in use" if used else "no training pairs"
        rank_zero_info(f"{data.shards.name} has {count}: the table goes without ridge regression.")
        return None
    if data.space.text_dim > WIDEST_RIDGE:
        rank_zero_info(
            f"The conditions of {data.shards.name} are {data.space.text_dim} wide: the table goes without ridge regression, "
            f"which is solved for at most {WIDEST_RIDGE}."
        )
        return None
    ridge = LinearPrior(data.space)
    if trainer.is_global_zero:
        for batch in data.single_pass(pairs):
            ridge.accumulate(batch)
        ridge.solve()
    ridge.load_state_dict(trainer.strategy.broadcast(ridge.state_dict()))
    return ridge


def read_gallery(shards: ShardSet, index: Int[Tensor, " pairs"], device: torch.device) -> Gallery:
    """The images of these pairs."""
    images = torch.empty(len(index), shards.space.dim, dtype=torch.float16)
    group = torch.empty(len(index), dtype=torch.int64)
    for rows in torch.arange(len(index)).split(ROWS_AT_ONCE):
        batch = read_pairs(shards, index[rows])
        images[rows] = batch.image_embed
        group[rows] = index[rows] if batch.group is None else batch.group
    return Gallery(images, group, device)


def read_pairs(shards: ShardSet, index: Int[Tensor, " pairs"], **options: Any) -> EmbeddingBatch:
    """Pairs by their number in the set, without token states."""
    numbers = index.numpy()
    records = np.searchsorted(shards.record_starts, numbers, side="right") - 1
    return shards.gather(records, numbers - shards.record_starts[records], with_states=False, **options)
