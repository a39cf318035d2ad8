from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor

from eclipse_pl.callbacks.latent_facts import facts_of, write_pairs
from eclipse_pl.callbacks.latent_rows import other_rows, read_gallery, redrawn_images
from eclipse_pl.callbacks.latent_samples import (
    Distribution,
    distribution_of,
    distribution_table,
    more_samples,
    numbers_of,
)
from eclipse_pl.callbacks.latent_table import latent_table
from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.data.remote_folder import is_url
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.data.subset_names import ALL, require_subset_name
from eclipse_pl.embedding import EmbeddingBatch
from eclipse_pl.files import write_json
from eclipse_pl.intervals import Estimate
from eclipse_pl.latent.distribution import measure_samples, require_redraws, require_samples
from eclipse_pl.latent.metrics import Measured
from eclipse_pl.lit_prior import LitPrior
from eclipse_pl.world.datamodule import WorldDataModule

Rows = dict[str, dict[str, dict[str, float]]]
"""{row of the table: {subset: {metric: value}}}"""

THIS_PRIOR = "this prior"


class LatentEvaluation(L.Callback):
    """Latent metrics at every validation, with both baselines, ridge regression and the upper bound.

    Logged are ``val/METRIC`` of the prior, ``val/SUBSET/METRIC`` for each subset and ``val/ROW/METRIC`` of each other row.
    At the end of a run the whole table, rows by subset, is printed and written to ``latent.json`` in the run's folder, with
    what must be known to compare it with another (`latent_facts`); the prior's metrics of each pair go to
    ``latent_pairs.npz``.

    With ``samples`` every validation also measures the distribution of that many samples a caption
    (`eclipse_pl.latent.distribution`): logged as ``val/METRIC``, printed in a second table, and in ``latent.json`` as
    ``distribution``, with intervals over images.

    Args:
        ridge_pairs: How many training pairs ridge regression is fitted to, once, before the first validation; 0 leaves the row
            out. The default takes seconds, and more pairs change it little.
        samples: The number of samples a caption whose distribution is measured, at least 2 (usual: 8). They multiply the time
            of sampling. Density and coverage need the distances between all images, which grow by the square of their number:
            on one core they take 2 seconds a row of the table for 1,000 images of width 768, and 40 for 5,000. Of more than
            5,000 images they are those of 5,000, always the same ones. The other rows are measured once. 0 leaves these
            metrics out.
        redraws: In the world, the number of images that are drawn anew for each caption, at least ``samples`` (such as 32).
            They are samples of the true distribution, and stand in the upper bound's row of these metrics: its spread is the
            true one, and no prior has a lower energy score on average. 32 of them for 1,000 captions take about three minutes,
            once for all runs. 0 puts the true image itself there.
    """

    def __init__(self, ridge_pairs: int = 100_000, samples: int = 0, redraws: int = 0) -> None:
        if ridge_pairs < 0 or ridge_pairs == 1:
            raise ValueError(
                f"latent.ridge_pairs is {ridge_pairs}; it must be 0 (no ridge row) or at least 2 pairs (usual: 100,000)."
            )
        require_samples("latent.samples", samples)
        require_redraws("latent.redraws", redraws, samples)
        self.ridge_pairs, self.samples, self.redraws = ridge_pairs, samples, redraws
        self._parts: list[Measured] = []
        self._predicted: list[Tensor] = []
        """This rank's predictions, a batch each; they stay on this rank."""
        self._other_rows: Rows = {}
        self._distribution: Distribution = {}
        """Of the first rank."""
        self._report: dict[str, Any] = {}
        self._pairs: dict[str, Any] = {}
        self._folder: Path | None = None

    @property
    def rows(self) -> Rows:
        """The table of the last evaluation."""
        return dict(self._report["rows"])

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Before training, because the answer is needed at its first validation. What another run of the trainer measured, of
        another split or another set, is forgotten."""
        self._parts, self._predicted, self._other_rows, self._distribution = [], [], {}, {}
        self._report, self._pairs = {}, {}
        if self.redraws and not isinstance(trainer.datamodule, WorldDataModule):  # type: ignore[attr-defined]
            raise ValueError(
                f"latent.redraws is {self.redraws}, but only the world can draw images anew for a caption. Set it to 0."
            )
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not is_url(data.folder):  # records behind a URL are not downloaded for this alone
            for record in data.shards.records("test" if stage == "test" else "val"):
                require_subset_names(data.shards, data.shards.read_chunk(record, with_states=False).subsets)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: EmbeddingBatch, *args: Any, **kwargs: Any
    ) -> None:
        require_subset_names(trainer.datamodule.shards, batch.subsets)  # type: ignore[attr-defined]
        if not trainer.sanity_checking:
            assert isinstance(pl_module, LitPrior)
            more = {}
            if self.samples:
                samples = more_samples(trainer, pl_module, outputs, batch, self.samples)
                more = measure_samples(samples, batch.image_embed)
            # of the set that is measured, as in all other rows; the prior may be of another set of this CLIP
            space, keep = trainer.datamodule.space, bool(self.samples)  # type: ignore[attr-defined]
            self._parts.append(Measured.of(outputs, batch, space.image_mean, space.has_captions, keep, **more))
            self._predicted.append(outputs.float().cpu())

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._evaluate(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._evaluate(trainer, pl_module, "test")

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Last of all, when the progress bar has gone."""
        if not self._report or not trainer.is_global_zero:
            return
        latent_table(self._report)
        if self.samples:
            distribution_table(self._report)
        if self._folder is not None:
            write_pairs(self._folder / "latent_pairs.npz", self._pairs)
            # last, because a run that has it has ended
            report = {**self._report, "trained_steps": trained_steps(trainer, pl_module)}
            write_json(self._folder / "latent.json", without_nan(report))

    def _evaluate(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(pl_module, LitPrior) and isinstance(data, EmbeddingDataModule)
        folder = trainer.log_dir  # rank 0 broadcasts it, so every rank must read it
        self._folder = None if folder is None else Path(folder)
        own, predicted = Measured.concatenated(self._parts), torch.cat(self._predicted)
        self._parts, self._predicted = [], []
        # only numbers travel: every rank reads all images from the shards, and searches them for its own predictions
        measured = torch.cat(gather_on_all_ranks(own.index)).sort().values
        gallery = read_gallery(data.shards, measured, pl_module.device)
        own.values["rank"] = gallery.ranks(predicted, torch.searchsorted(measured, own.index))
        rows = {THIS_PRIOR: own}
        if not self._other_rows:
            redrawn = None
            if self.redraws:
                redrawn = redrawn_images(data, "test" if stage == "test" else "val", own.index, measured, self.redraws)
            rows |= other_rows(
                trainer, data, own.index, measured, gallery, self.ridge_pairs, bool(self.samples), redrawn, self.samples
            )
        parts, table, means = gather_on_first_rank(rows), self._other_rows, {}
        if trainer.is_global_zero:
            joined = {name: Measured.join([part[name] for part in parts]) for name in rows}
            table = {name: row.means() for name, row in joined.items()} | self._other_rows
            prior, step = joined[THIS_PRIOR], trained_steps(trainer, pl_module)
            self._report = {
                "stage": stage,
                "step": step,
                **facts_of(trainer, pl_module, measured, len(own.index)),
                "rows": table,
            }
            self._pairs = {"step": step, "index": prior.index, "group": prior.group, "subset": prior.subsets, **prior.values}
            if self.samples:
                self._distribution |= {name: distribution_of(row, data.shards) for name, row in joined.items()}
                self._report["distribution"] = {
                    "samples": self.samples,
                    "redraws": self.redraws,
                    "neighbourhoods": self._distribution[THIS_PRIOR][ALL]["coverage"].n,
                    "rows": numbers_of(self._distribution),
                }
                means = {row: {name: _means(one) for name, one in of.items()} for row, of in self._distribution.items()}
        table, means = trainer.strategy.broadcast((table, means))
        self._other_rows = {name: row for name, row in table.items() if name != THIS_PRIOR}
        logged = {THIS_PRIOR: table[THIS_PRIOR]} | {row: {ALL: subsets[ALL]} for row, subsets in self._other_rows.items()}
        for row, subsets in logged.items():
            for subset, metrics in subsets.items():
                path = ("" if row == THIS_PRIOR else f"{row}/") + ("" if subset == ALL else f"{subset}/")
                found = metrics | means.get(row, {}).get(subset, {})
                # every rank holds the same values already; sync_dist states that to Lightning
                pl_module.log_dict({f"{stage}/{path}{name}": value for name, value in found.items()}, sync_dist=True)


def require_subset_names(shards: ShardSet, names: Sequence[str] | None) -> None:
    """Raise ValueError for a set of shards that has a subset of a name that tables use (`require_subset_name`)."""
    for name in set(names or ()):
        try:
            require_subset_name(name)
        except ValueError as error:
            raise ValueError(
                f"{shards.name}: {error}. Rename the subset in the source of these shards, and make them again in another "
                f"folder; they were made by `{shards.manifest.made_by}`."
            ) from error


def _means(estimates: dict[str, Estimate]) -> dict[str, float]:
    return {name: estimate.mean for name, estimate in estimates.items()}


def trained_steps(trainer: L.Trainer, module: L.LightningModule) -> int:
    """Training steps of the weights, also if they were loaded and not trained here."""
    assert isinstance(module, LitPrior)
    return max(trainer.global_step, module.loaded_step)


def without_nan(tree: Any) -> Any:
    """NaN, which JSON does not know, as None."""
    if isinstance(tree, dict):
        return {key: without_nan(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [without_nan(value) for value in tree]
    return None if isinstance(tree, float) and math.isnan(tree) else tree


def gather_on_all_ranks(value: Any) -> list[Any]:
    """The values of all ranks, on every rank."""
    if not dist.is_initialized():
        return [value]
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, value)
    return everyone


def gather_on_first_rank(value: Any) -> list[Any]:
    """The values of all ranks on rank 0, an empty list on the others."""
    if not dist.is_initialized():
        return [value]
    everyone: list[Any] | None = [None] * dist.get_world_size() if dist.get_rank() == 0 else None
    dist.gather_object(value, everyone)
    return everyone or []
