"""CompiledLosses: the losses of a prior through torch.compile, in shapes that repeat."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from eclipse_pl.embedding import EmbeddingBatch
from eclipse_pl.priors.prior import Prior

Mode = Literal["default", "reduce-overhead", "max-autotune"]
MODES = ("default", "reduce-overhead", "max-autotune")
SHAPES = 64
"""Shapes of a batch for which code is made. torch gives up after 8, and buckets of long captions are more."""


class CompiledLosses:
    """`Prior.losses`, compiled at the first batch of each shape.

    It is no module and wraps none, so the names of the weights stay, and a run may be resumed with it or without it. Random
    numbers are those of the losses that are not compiled. Over several ranks the gather of negatives stays outside, and
    so does what a prior says that torch cannot compile (`Prior.compiles_whole`).

    Args:
        prior: Any prior that is trained by gradient.
        mode: The mode of torch.compile; "reduce-overhead" and "max-autotune" use CUDA graphs on a GPU.
    """

    def __init__(self, prior: Prior, mode: Mode) -> None:
        from torch import _dynamo, _inductor

        _dynamo.config.recompile_limit = max(_dynamo.config.recompile_limit, SHAPES)
        options = {**_inductor.list_mode_options(mode), "fallback_random": True}
        together = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        self._context_length = prior.space.context_length
        self.whole = prior.compiles_whole and not together
        self._losses = torch.compile(prior.losses, fullgraph=self.whole, dynamic=False, options=options)

    def __call__(self, batch: EmbeddingBatch) -> dict[str, Tensor]:
        """The losses of a batch, in memory that the next call does not overwrite, as a CUDA graph would."""
        torch.compiler.cudagraph_mark_step_begin()
        losses = self._losses(replace(batch, text=batch.text.bucketed(self._context_length)))
        return {name: loss.clone() for name, loss in losses.items()}


def require_compiler(device: torch.device, option: str = "model.compile", without: str = "leave model.compile null") -> None:
    """Check what torch.compile needs, before training. ``option`` asks for it, and ``without`` says how to do without it.

    Raises:
        ValueError: torch has no inductor, or the machine has no compiler (or, for a GPU, no Triton).
    """
    leave_out = f"or {without}"
    try:
        from torch._inductor.cpp_builder import get_cpp_compiler
        from torch._inductor.exc import InvalidCxxCompiler
        from torch.utils._triton import has_triton
    except ImportError as error:
        raise ValueError(f"{option} needs torch's inductor ({error}): install another torch, {leave_out}.") from error
    if device.type == "cuda":
        if not has_triton():
            raise ValueError(f"{option} needs Triton on a GPU, and torch finds none: pip install triton, {leave_out}.")
        compilers = [os.environ.get("CC", "cc"), "gcc", "clang"]
        if not any(map(shutil.which, compilers)):
            raise ValueError(f"{option} needs a C compiler, and there is none: apt-get install gcc, {leave_out}.")
        return
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise ValueError(f"{option} needs a C++ compiler, and there is none: apt-get install g++, {leave_out}.") from error
