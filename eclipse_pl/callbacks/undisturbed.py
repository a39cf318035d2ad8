from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging


@contextmanager
def undisturbed(module: L.LightningModule, averages: Sequence[WeightAveraging] = ()) -> Iterator[None]:
    """Evaluation in the middle of training: mode, random numbers and weights are the same afterwards.

    Inside, autocast is off, and where weights are averaged the module holds the averaged ones: those that a validation
    measures and a checkpoint's ``state_dict`` holds.
    """
    modes = [(part, part.training) for part in module.modules()]
    devices = [module.device] if module.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad(), torch.autocast(module.device.type, enabled=False):
        module.eval()
        for average in averages:
            average._swap_models(module)
        try:
            yield
        finally:
            for average in averages:
                average._swap_models(module)
            for part, training in modes:
                part.training = training
