"""Timing of a whole ``fit`` through the command line's front door, against the bare step loop in the same process."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import nn

from eclipse_pl.embedding import EmbeddingBatch
from eclipse_pl.speed.inputs import write_shards
from eclipse_pl.speed.timing import Timing, autocast
from eclipse_pl.training.compiled import CompiledLosses, Mode

PAPER_SAMPLES = 61e6
"""Samples that the paper trains ECLIPSE on: about 60,000 steps of a global batch of 1024."""
ROUNDS = 8
"""Rounds of a measurement. The first one does not count."""
CHUNK, RECORDS, MOST_SHARDS = 1024, 8, 32
"""Pairs of a record, records of a shard, and the most shards that are written (6.5 GB in a space of 768)."""
GRADIENT_CLIP = 1.0


def fit(
    name: str,
    dim: int,
    device: torch.device,
    batches: Sequence[int],
    steps: int,
    compile: Mode | None = None,
    **sizes: Any,
) -> Iterator[Timing]:
    """Time ``fit`` with ECLIPSE's loss, gradient clipping and AdamW, one row for each batch size, in samples/s.

    ``fit`` reads shards, copies batches to the device, logs and runs all callbacks of a run. Its peer makes the same steps
    with the same batches, which are on the device already, and does nothing else. They take turns, `ROUNDS` times.

    Args:
        name: Name of the rows, before the number of pairs.
        dim: Width of embeddings and token states.
        device: Where both compute.
        batches: Numbers of pairs in a batch.
        steps: Steps of ``fit``, and as many of its peer.
        compile: The ``model.compile`` of both. Their first steps compile, and do not count where a turn has more of them.
        **sizes: Options of the prior; ECLIPSE's sizes by default.
    """
    with tempfile.TemporaryDirectory(prefix="eclipse_pl_speed_") as folder:
        shards = min(MOST_SHARDS, math.ceil(steps * max(batches) / (CHUNK * RECORDS)))
        write_shards(Path(folder), shards, RECORDS, CHUNK, dim)
        ending = "" if compile is None else "/compiled"
        for batch in batches:
            yield fit_of_batch(f"{name}/{batch}{ending}", Path(folder), device, batch, steps, compile, sizes)


def fit_of_batch(
    name: str, folder: Path, device: torch.device, batch: int, steps: int, compile: Mode | None, sizes: dict[str, Any]
) -> Timing:
    """One row of `fit`, from the shards in ``folder``."""
    from eclipse_pl.cli import main

    every = max(1, steps // ROUNDS)
    experiment = folder / f"{batch}.yaml"
    settings = config(folder, device, batch, every * ROUNDS, every, sizes)
    settings["model"]["compile"] = compile
    experiment.write_text(json.dumps(settings))  # JSON is YAML
    with contextlib.redirect_stdout(io.StringIO()):
        trainer: Any = main(["fit", "--config", str(experiment)]).trainer
    (turns,) = (callback for callback in trainer.callbacks if isinstance(callback, BareTurns))
    ours, peer = (batch / statistics.median(seconds[1:]) for seconds in (turns.fit, turns.bare))
    return Timing(name, ours, peer, "samples/s", {"minutes_of_61_million_samples": PAPER_SAMPLES / ours / 60})


def config(folder: Path, device: torch.device, batch: int, steps: int, every: int, sizes: dict[str, Any]) -> dict[str, Any]:
    """An experiment of ECLIPSE's prior on the shards in ``folder``, which validates nothing and logs every few steps."""
    gpu = device.type == "cuda"
    prior = {"class_path": "eclipse_pl.priors.eclipse.EclipsePrior", "init_args": sizes}
    return {
        "run": {"experiment": "speed", "folder": str(folder / "runs"), "wandb": "disabled"},
        "trainer": {
            "accelerator": "gpu" if gpu else "cpu",
            "devices": [device.index or 0] if gpu else 1,
            "precision": "bf16-mixed" if gpu else "32-true",
            "max_steps": steps,
            "limit_val_batches": 0,
            "log_every_n_steps": every,
            "gradient_clip_val": GRADIENT_CLIP,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [{"class_path": f"{__name__}.BareTurns", "init_args": {"every": every}}],
        },
        "data": {
            "class_path": "eclipse_pl.data.datamodule.EmbeddingDataModule",
            "init_args": {"folder": str(folder), "batch_size": batch},
        },
        "model": {
            "prior": prior,
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1.0e-5, "fused": True}},
        },
        "checkpoint": {"every_n_steps": 10**9},
    }


class BareTurns(L.Callback):
    """After every few steps of a fit, makes as many bare steps with the same batches. It times both.

    Args:
        every: Steps of a turn.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.fit: list[float] = []
        """Seconds per step of each turn of ``fit``."""
        self.bare: list[float] = []
        """Seconds per step of each turn of the bare loop."""
        self._batches: list[EmbeddingBatch] = []
        self._begun = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._device = pl_module.device
        prior: Any = copy.deepcopy(pl_module.prior)
        self._parameters = [parameter for parameter in prior.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(self._parameters, lr=1.0e-5, fused=True)
        mode = pl_module.compile_mode
        self._losses: Any = prior.losses if mode is None else CompiledLosses(prior, mode)  # type: ignore[arg-type]
        self._begun = self._now()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: EmbeddingBatch, batch_idx: int
    ) -> None:
        self._batches.append(batch)
        if len(self._batches) < self.every:
            return
        turned = self._now()
        self.fit.append((turned - self._begun) / self.every)
        for each in self._batches:
            self._step(each)
        self._begun = self._now()
        self.bare.append((self._begun - turned) / self.every)
        self._batches.clear()

    def _step(self, batch: EmbeddingBatch) -> None:
        self._optimizer.zero_grad()
        with autocast(self._device):
            loss = self._losses(batch)["total"]
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, GRADIENT_CLIP)
        self._optimizer.step()

    def _now(self) -> float:
        """Seconds, read when the device has done all that it was asked for."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
