from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import lightning as L
import torch


@contextmanager
def undisturbed(module: L.LightningModule) -> Iterator[None]:
    """Evaluation in the middle of training: mode and random numbers are afterwards what they were, and autocast is off."""
    modes = [(part, part.training) for part in module.modules()]
    devices = [module.device] if module.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad(), torch.autocast(module.device.type, enabled=False):
        module.eval()
        try:
            yield
        finally:
            for part, training in modes:
                part.training = training
