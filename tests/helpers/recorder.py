"""A model that notes which pairs it is given, and runs of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch

from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.embedding import EmbeddingBatch

BATCHES = 8  # an epoch: 70 pairs in batches of 8, and 6 pairs left over
Seen = list[tuple[int, ...]]


def data_of(folder: Path, **options: Any) -> EmbeddingDataModule:
    return EmbeddingDataModule(str(folder), **{"batch_size": 8, "window": 2, "workers": 0, "seed": 0, **options})


class Recorder(L.LightningModule):
    """Notes the pairs of every batch; ``fail_at`` raises inside the step of that batch."""

    def __init__(self, fail_at: int | None = None, notes: Path | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: Seen = []
        self.validated: Seen = []
        self.fail_at = fail_at
        self.notes = notes

    def training_step(self, batch: EmbeddingBatch, batch_idx: int) -> torch.Tensor:
        assert batch.image_embed.dtype == batch.text.text_states.dtype == torch.float32
        assert batch.captions is None
        if len(self.seen) == self.fail_at:
            raise RuntimeError("a failure inside a step")
        self.seen.append(tuple(batch.index.tolist()))
        return self.weight * batch.image_embed.mean()

    def validation_step(self, batch: EmbeddingBatch, batch_idx: int) -> None:
        self.validated.append(tuple(batch.index.tolist()))

    def on_fit_end(self) -> None:
        if self.notes is not None:
            (self.notes / f"rank{self.global_rank}.txt").write_text(repr([self.seen, self.validated]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class SaveEverywhere(L.Callback):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.folder / f"step{trainer.global_step}.ckpt")

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.folder / f"epoch{trainer.current_epoch}.ckpt")

    def on_exception(self, trainer: L.Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.folder / "failed.ckpt")


def trainer_of(**options: Any) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )


def fit(data: EmbeddingDataModule, checkpoint: Path | None = None, model: Recorder | None = None, **options: Any) -> Recorder:
    model = model or Recorder()
    trainer_of(**options).fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    return model


def epochs_of(data: EmbeddingDataModule, epochs: int) -> Iterator[EmbeddingBatch]:
    loader = data.train_dataloader()
    for _ in range(epochs):
        batches = list(loader)
        assert len(batches) == len(loader)
        yield from batches
    loader.close()
