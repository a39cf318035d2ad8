"""The card: the CUDA device of the tests marked `gpu`; on request the CPU, to see that their logic holds.

``ECLIPSE_PL_CARD=cpu python -m pytest -m gpu tests/test_gpu*.py`` runs on the CPU what can run there. Nothing but this
variable brings a test to the CPU: without a GPU they fail, and `make gpu` sets the variable to ``cuda``.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

VARIABLE = "ECLIPSE_PL_CARD"
DRAWS = (torch.randn, torch.rand, torch.randint)


def card() -> torch.device:
    """The device. The test fails where there is no GPU and nobody asked for the CPU."""
    name = os.environ.get(VARIABLE, "cuda")
    if name not in ("cuda", "cpu"):
        pytest.fail(f"{VARIABLE} is {name!r}; choose cuda or cpu")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.fail(f"torch finds no GPU here ({VARIABLE}=cpu runs on the CPU what can run there)")
    return torch.device(name)


def trainer_options(device: torch.device) -> dict[str, Any]:
    """The options of `write_experiment` for one process on the device."""
    gpu = device.type == "cuda"
    return {"trainer__accelerator": "gpu" if gpu else "cpu", "trainer__devices": 1}


class DrawnOnTheCpu(TorchFunctionMode):
    """Random numbers are drawn on the CPU and moved, so that one seed gives one batch of noise on every device."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function in DRAWS and kwargs.get("generator") is None and kwargs.get("device") is not None:
            device = kwargs.pop("device")
            return function(*args, **kwargs, device="cpu").to(device)
        return function(*args, **kwargs)


def assert_near(ours: Tensor, theirs: Tensor, share: float, floor: float = 1e-6, name: str = "") -> None:
    """The norm of the difference is at most this ``share`` of the norm of ``theirs``, or of ``floor`` where that is larger."""
    ours, theirs = ours.detach().cpu().double(), theirs.detach().cpu().double()
    assert ours.shape == theirs.shape and ours.isfinite().all(), name
    error = float((ours - theirs).norm()) / max(float(theirs.norm()), floor)
    assert error <= share, f"{name}: {error:.2e} of its norm, more than {share:.0e}"


def assert_same_gradients(ours: dict[str, Tensor], theirs: dict[str, Tensor], share: float) -> None:
    """Gradients that are zero but for rounding (those of key biases) are compared with the largest of all."""
    assert ours.keys() == theirs.keys()
    largest = max((float(gradient.norm()) for gradient in theirs.values()), default=0.0)
    for name, gradient in theirs.items():
        assert_near(ours[name], gradient, share, floor=1e-2 * largest, name=name)
