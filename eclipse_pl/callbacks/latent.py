from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from eclipse_pl.callbacks.latent_facts import facts_of, write_pairs
from eclipse_pl.callbacks.latent_table import latent_table
from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.data.manifest import write_json
from eclipse_pl.embedding import EmbeddingBatch, TextCondition
from eclipse_pl.latent_metrics import ALL, Predictions, means, measure, measure_pairs
from eclipse_pl.lit_prior import LitPrior
from eclipse_pl.priors.baselines import LinearPrior, MeanImagePrior, TextAsImagePrior
from eclipse_pl.priors.prior import Prior

Rows = dict[str, dict[str, dict[str, float]]]
"""{row of the table: {subset: {metric: value}}}"""

THIS_PRIOR = "this prior"


class LatentEvaluation(L.Callback):
    """Latent metrics at every validation, beside both floors, ridge regression and the ceiling.

    Logged are ``val/METRIC`` of the prior, ``val/SUBSET/METRIC`` for each subset and ``val/ROW/METRIC`` of each row beside it.
    At the end of a run the whole table, rows by subset, is printed and written to ``latent.json`` in the run's folder, with
    what must be known to compare it with another (`latent_facts`); the prior's metrics of each pair go to
    ``latent_pairs.npz``.

    Args:
        ridge_pairs: How many training pairs ridge regression is fitted to, once, before the first validation; 0 leaves the row
            out. The default takes seconds, and more pairs change it little.
    """

    def __init__(self, ridge_pairs: int = 100_000) -> None:
        if ridge_pairs < 0:
            raise ValueError(f"latent.ridge_pairs is {ridge_pairs}; it must be 0 (no ridge row) or a number of training pairs")
        self.ridge_pairs = ridge_pairs
        self._parts: list[Predictions] = []
        self._beside: Rows = {}
        self._report: dict[str, Any] = {}
        self._pairs: dict[str, Any] = {}
        self._folder: Path | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        folder = trainer.log_dir  # rank 0 tells the others, so all must ask
        self._folder = None if folder is None else Path(folder)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: EmbeddingBatch, *args: Any, **kwargs: Any
    ) -> None:
        if not trainer.sanity_checking:
            self._parts.append(Predictions.of_batch(outputs, batch))

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
        if self._folder is not None:
            write_pairs(self._folder / "latent_pairs.npz", self._pairs)
            # last, because a run that has it has ended
            report = {**self._report, "trained_steps": steps_behind(trainer, pl_module)}
            write_json(self._folder / "latent.json", without_nan(report))

    def _evaluate(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        assert isinstance(pl_module, LitPrior)
        mean = pl_module.prior.space.image_mean.cpu()
        own = sum(len(part.index) for part in self._parts)
        parts, self._parts = gather_on_first_rank(self._parts), []
        rows: Rows = {}
        if trainer.is_global_zero:
            predictions = Predictions.join(parts)
            if not self._beside:
                self._beside = self._rows_beside(trainer, pl_module.prior, predictions)
            pairs, step = measure_pairs(predictions, mean), steps_behind(trainer, pl_module)
            rows = {THIS_PRIOR: means(pairs, predictions.subsets), **self._beside}
            facts = facts_of(trainer, pl_module, predictions, own)
            self._report = {"stage": stage, "step": step, **facts, "rows": rows}
            self._pairs = {"step": step, "index": predictions.index, "subset": predictions.subsets, **pairs}
        rows = trainer.strategy.broadcast(rows)
        logged = {"" if subset == ALL else f"{subset}/": metrics for subset, metrics in rows[THIS_PRIOR].items()}
        logged |= {f"{row}/": subsets[ALL] for row, subsets in rows.items() if row != THIS_PRIOR}
        for path, metrics in logged.items():
            # every rank holds the same values already; sync_dist only tells Lightning so
            pl_module.log_dict({f"{stage}/{path}{name}": value for name, value in metrics.items()}, sync_dist=True)

    def _rows_beside(self, trainer: L.Trainer, prior: Prior, predictions: Predictions) -> Rows:
        space = prior.space
        baselines: dict[str, Prior] = {"mean_image": MeanImagePrior(space), "text_as_image": TextAsImagePrior(space)}
        if self.ridge_pairs:
            baselines |= self._fit_ridge(trainer, LinearPrior(space))
        pairs = len(predictions.predicted)
        # baselines read the pooled embedding alone
        text = TextCondition(predictions.text_embed, torch.zeros(0, space.text_width), torch.zeros(pairs, dtype=torch.int64))
        predicted = {name: baseline.sample(text) for name, baseline in baselines.items()}
        predicted["ceiling"] = predictions.image_embed
        return {name: measure(predictions.replace(embed), space.image_mean.cpu()) for name, embed in predicted.items()}

    def _fit_ridge(self, trainer: L.Trainer, ridge: LinearPrior) -> dict[str, Prior]:
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, EmbeddingDataModule)
        if not len(data.shards.records("train")):
            rank_zero_info(f"{data.folder} has no training pairs: the table goes without ridge regression.")
            return {}
        for batch in data.single_pass(self.ridge_pairs):
            ridge.accumulate(batch)
        ridge.solve()
        return {"ridge": ridge}


def steps_behind(trainer: L.Trainer, module: L.LightningModule) -> int:
    """Training steps behind the weights, also where they were loaded and nothing was trained."""
    assert isinstance(module, LitPrior)
    return max(trainer.global_step, module.loaded_step)


def without_nan(tree: Any) -> Any:
    """NaN, which JSON does not know, as None."""
    if isinstance(tree, dict):
        return {key: without_nan(value) for key, value in tree.items()}
    return None if isinstance(tree, float) and math.isnan(tree) else tree


def gather_on_first_rank(parts: list[Predictions]) -> list[Predictions]:
    """The parts of all ranks on rank 0, nothing on the others: a large split is held once."""
    if not dist.is_initialized():
        return parts
    everyone: list[Any] | None = [None] * dist.get_world_size() if dist.get_rank() == 0 else None
    dist.gather_object(parts, everyone)
    return [part for rank in everyone or [] for part in rank]
