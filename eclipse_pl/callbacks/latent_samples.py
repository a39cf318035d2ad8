"""Samples of the prior for the pairs of a validation, and the table of their distribution."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from eclipse_pl.callbacks.latent_rows import read_pairs
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.data.subset_names import ALL, ROWS
from eclipse_pl.embedding import EmbeddingBatch
from eclipse_pl.intervals import Estimate, with_bounds
from eclipse_pl.latent.distribution import MOST_IMAGES, OF_CAPTIONS, OF_SETS, estimate_captions, estimate_sets
from eclipse_pl.latent.metrics import LABELS, Measured, rows_of
from eclipse_pl.lit_prior import LitPrior, place_seed

Distribution = dict[str, dict[str, dict[str, Estimate]]]
"""{row of the table: {subset: {metric: estimate}}}; the metrics of sets have the whole split alone."""


def more_samples(
    trainer: L.Trainer, module: LitPrior, first: Float[Tensor, "batch dim"], batch: EmbeddingBatch, count: int
) -> Float[Tensor, "batch samples dim"]:
    """Return ``count`` samples a caption. The first is the prediction. The others are seeded by the pair and their number.

    They cost ``count - 1`` times the sampling of a validation.
    """
    samples = [first.float()]
    for number in range(1, count):
        generators = [torch.Generator().manual_seed(place_seed(index, number)) for index in batch.index.tolist()]
        with trainer.precision_plugin.forward_context(), torch.no_grad():
            samples.append(module.prior.sample(batch.text, generators).float())
    return torch.stack(samples, 1)


def distribution_of(row: Measured, shards: ShardSet) -> dict[str, dict[str, Estimate]]:
    """Return {subset: {metric: estimate}} of all pairs of a split."""
    found = {}
    for subset, taken in rows_of(row.subsets).items():
        values = {name: row.values[name][taken] for name in OF_CAPTIONS}
        found[subset] = estimate_captions(values, row.group[taken])
    assert row.predicted is not None
    images = torch.cat([read_pairs(shards, index).image_embed for index in row.index.split(4096)])
    found[ALL] |= estimate_sets(row.predicted, images, row.group)
    return found


def distribution_table(report: dict[str, Any]) -> None:
    """Print rows x metrics, each mean with its 95 % interval over images: the metrics of captions, then those of sets."""
    distribution = report["distribution"]
    redraws = distribution["redraws"]
    drawn = f"; the upper bound's are {redraws} images drawn anew for each" if redraws else ""
    part = said_of_part(distribution["neighbourhoods"])
    for title, metrics in (
        (f"{distribution['samples']} samples a caption, [95 % interval] over images{drawn}", OF_CAPTIONS),
        (f"The first sample of every caption, [95 % interval] over images{part}", OF_SETS),
    ):
        table = Table(title=Text(title), title_justify="left", box=None)
        table.add_column("")
        for name in metrics:
            table.add_column(name, justify="right")
        for row in (name for name in ROWS if name in distribution["rows"]):
            values = [Text(_cell(*distribution["rows"][row][ALL][name])) for name in metrics]
            table.add_row("  " + LABELS.get(row, row), *values, style="green" if row == "this prior" else None)
        Console(width=None if Console().is_terminal else 160).print(table)


def said_of_part(neighbourhoods: int) -> str:
    """The end of a title where density and coverage are those of a part of the images; "" where they are of all."""
    return f"; density and coverage of {MOST_IMAGES:,} of the images" if neighbourhoods == MOST_IMAGES else ""


def numbers_of(distribution: Distribution) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Return [mean, low, high] for each estimate."""
    return {
        row: {
            subset: {name: [one.mean, one.low, one.high] for name, one in estimates.items()}
            for subset, estimates in subsets.items()
        }
        for row, subsets in distribution.items()
    }


def _cell(mean: float, low: float, high: float) -> str:
    if mean != mean:
        return "-"
    return f"{mean:.3f}" if low != low else with_bounds(mean, low, high)
