"""Loss curves of small priors at one global batch, on this process or on the ranks around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.embedding import ClipSpace, EmbeddingBatch
from eclipse_pl.lit_prior import LitPrior
from eclipse_pl.priors import (
    BestOfPrior,
    DiffusionPrior,
    EclipsePrior,
    FlowPrior,
    LoraPrior,
    MeanFlowPrior,
    MLPPrior,
    Prior,
)
from tests.helpers.noise_by_pair import draw_by_pair
from tests.helpers.recorder import trainer_of

GLOBAL_BATCH = 16
STEPS = 6
SMALL: dict[str, Any] = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8}


def adapted(space: ClipSpace) -> LoraPrior:
    """Of random weights, which `LoraPrior` would refuse to train."""
    prior = LoraPrior(space, "eclipse_pl.priors.diffusion.DiffusionPrior", SMALL, rank=4)
    prior.trained = True
    return prior


PRIORS: dict[str, Callable[[ClipSpace], Prior]] = {
    "EclipsePrior": partial(EclipsePrior, **SMALL),
    "EclipsePrior, symmetric": partial(
        EclipsePrior, target="symmetric", learn_temperature=True, mask_duplicates=True, noise="learned", **SMALL
    ),
    "EclipsePrior, projection": partial(EclipsePrior, contrastive_weight=0.0, noise="zero", **SMALL),
    "MLPPrior": partial(MLPPrior, num_layers=2, width=16),
    "EclipsePrior, energy": partial(EclipsePrior, projection="energy", samples=2, **SMALL),
    "DiffusionPrior": partial(DiffusionPrior, **SMALL),
    "FlowPrior": partial(FlowPrior, **SMALL),
    # another pair's image is that of a neighbour on its rank, so here no caption is dropped
    "FlowPrior, text": partial(FlowPrior, source="text", condition_dropout=0.0, guidance_scale=1.0, **SMALL),
    # a rank draws the pairs that have an interval among its own, so here all have one
    "MeanFlowPrior": partial(MeanFlowPrior, interval_share=1.0, adaptive_power=0.0, **SMALL),
    "BestOfPrior": partial(BestOfPrior, prior="eclipse_pl.priors.flow.FlowPrior", prior_args=SMALL),
    "LoraPrior": adapted,
}
"""Every prior that is trained by gradient, by the name of its class and what is special."""
THIS_RANK = partial(EclipsePrior, negatives="this_rank", noise="zero", **SMALL)  # noise would be drawn once a block

SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9)
ADAMW = partial(torch.optim.AdamW, lr=3e-3)


@dataclass
class Curve:
    """What one rank has seen of a run; `joined` makes it that of all ranks."""

    losses: list[float] = field(default_factory=list)
    pairs: list[list[int]] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)


class Drawing(L.Callback):
    """Writes the curve of a run."""

    def __init__(self) -> None:
        self.curve = Curve()

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: EmbeddingBatch, _: int) -> None:
        self.curve.losses.append(float(outputs["loss"]) * trainer.accumulate_grad_batches)
        self.curve.pairs.append(batch.index.tolist())

    def on_train_end(self, trainer: L.Trainer, module: Any) -> None:
        self.curve.weights = {name: tensor.numpy().copy() for name, tensor in module.prior.state_dict().items()}


def joined(curves: Sequence[Curve]) -> Curve:
    """Mean losses over ranks, the union of the pairs of each batch, the weights (equal on all)."""
    for other in curves[1:]:
        for name, tensor in curves[0].weights.items():
            assert np.array_equal(other.weights[name], tensor), f"{name} differs between ranks"
    return Curve(
        [sum(losses) / len(curves) for losses in zip(*(curve.losses for curve in curves), strict=True)],
        [sorted(chain(*pairs)) for pairs in zip(*(curve.pairs for curve in curves), strict=True)],
        curves[0].weights,
    )


class Noise(L.Callback):
    """The noise that the network of the prior gets in training: the beginning of its first row."""

    def __init__(self) -> None:
        self.drawn: dict[tuple[int, int], tuple[float, ...]] = {}

    def on_train_batch_start(self, trainer: L.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        place = trainer.current_epoch, batch_idx

        def note(network: Any, inputs: tuple[Tensor, ...]) -> None:
            self.drawn[place] = tuple(inputs[0][0, :4].tolist())

        self._hook = module.prior.network.register_forward_pre_hook(note)

    def on_train_batch_end(self, *_: Any) -> None:
        self._hook.remove()


def curve_of(
    make: Callable[[ClipSpace], Prior],
    shards: Path,
    processes: int = 1,
    optimizer: Callable[..., torch.optim.Optimizer] = ADAMW,
    strategy: dict[str, Any] | None = None,
    **trainer: Any,
) -> Curve:
    """Train on this rank of ``processes``, at the same global batch whatever their number."""
    data = data_of(shards, processes)
    torch.manual_seed(0)
    drawing = Drawing()
    options = {**trainer_options(processes, **(strategy or {})), **trainer}
    trainer_of(**options, callbacks=[drawing]).fit(LitPrior(draw_by_pair(make(data.space)), optimizer), datamodule=data)
    return drawing.curve


def noise_of(shards: Path, processes: int) -> dict[tuple[int, int], tuple[float, ...]]:
    """That of two epochs of three batches, by (epoch, batch), as runs seed it."""
    data = data_of(shards, processes)
    torch.manual_seed(0)
    noise = Noise()
    options = {**trainer_options(processes), "max_steps": 6, "limit_train_batches": 3}
    trainer_of(**options, callbacks=[noise]).fit(LitPrior(EclipsePrior(data.space, **SMALL), SGD), datamodule=data)
    return noise.drawn


def curve_of_blocks(
    make: Callable[[ClipSpace], Prior],
    shards: Path,
    pairs: Sequence[Sequence[Sequence[int]]],
    optimizer: Callable[..., torch.optim.Optimizer] = SGD,
) -> Curve:
    """A loop written out, without ranks: the loss of step k is the mean over the losses of the blocks ``pairs[k]``."""
    data = data_of(shards, 1)
    torch.manual_seed(0)
    prior = draw_by_pair(make(data.space))
    stepper, curve = optimizer(prior.parameters()), Curve()
    for blocks in pairs:
        losses = [prior.losses(batch_of(data, block))["total"] for block in blocks]
        loss = torch.stack(losses).mean()
        stepper.zero_grad()
        loss.backward()
        stepper.step()
        curve.losses.append(loss.item())
    return curve


def batch_of(data: EmbeddingDataModule, pairs: Sequence[int]) -> EmbeddingBatch:
    starts, numbers = data.shards.record_starts, np.sort(np.asarray(pairs))
    records = np.searchsorted(starts, numbers, side="right") - 1
    return data.shards.gather(records, numbers - starts[records]).to("cpu")


def data_of(shards: Path, processes: int) -> EmbeddingDataModule:
    return EmbeddingDataModule(str(shards), GLOBAL_BATCH // processes, workers=0, window=2, seed=0)


def trainer_options(processes: int, **strategy: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"max_steps": STEPS, "limit_val_batches": 0, "devices": processes}
    if processes > 1:
        options |= {"strategy": DDPStrategy(**strategy), "use_distributed_sampler": False}
    return options
