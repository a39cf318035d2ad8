"""StepTrace: a profiler that writes what a few training steps do, on the CPU and the GPU, to the run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch.profiler import ProfilerActivity, record_function

BATCH = "run_training_batch"


class StepTrace(Profiler):
    """``trace_RANK.json`` of whole batches: data, copies, forward and backward pass, optimizer, callbacks.

    https://ui.perfetto.dev and chrome://tracing open it. Lightning's PyTorchProfiler asks for the folder before a run has one,
    and traces again and again until the run ends.

    Args:
        first: Batches before the first one of the trace. They compile, allocate memory and fill the loader.
        batches: Number of batches in the trace.

    Raises:
        ValueError: A number is too small.
    """

    def __init__(self, first: int = 20, batches: int = 10) -> None:
        super().__init__()
        for name, value in (("first", first), ("batches", batches)):
            if value < 1:
                raise ValueError(f"trainer.profiler.{name} is {value}; it must be 1 or more.")
        self.first, self.batches = first, batches
        self._done = 0
        self._profile: Any = None
        self._written = False
        self._open: dict[str, Any] = {}

    def start(self, action_name: str) -> None:
        if self._profile is not None:
            self._open[action_name] = record_function(action_name)
            self._open[action_name].__enter__()

    def stop(self, action_name: str) -> None:
        if action_name in self._open:
            self._open.pop(action_name).__exit__(None, None, None)
        if action_name == BATCH:
            self._done += 1
            if self._done == self.first:
                gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
                self._profile = torch.profiler.profile(activities=[ProfilerActivity.CPU, *gpu])
                self._profile.__enter__()
            elif self._done == self.first + self.batches:
                self._write()

    def teardown(self, stage: str | None) -> None:
        if stage == "fit" and not self._written:
            most = self.first + self.batches
            rank_zero_info(
                f"The run ended after {self._done} batches, and the trace begins after {self.first} and ends after "
                f"{most}: no trace was written."
            )
            if self._profile is not None:
                self._close()
        super().teardown(stage)

    def _write(self) -> None:
        profile = self._close()
        module: Any = getattr(self, "_lightning_module", None)  # set by Lightning
        folder = None if module is None else module.trainer.log_dir
        path = Path(folder or ".") / f"trace_{self._local_rank or 0}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        profile.export_chrome_trace(str(path))
        self._written = True
        rank_zero_info(f"A trace of {self.batches} batches: {path}. https://ui.perfetto.dev opens it.")

    def _close(self) -> Any:
        profile, self._profile = self._profile, None
        for name in list(self._open)[::-1]:
            self._open.pop(name).__exit__(None, None, None)
        profile.__exit__(None, None, None)
        return profile
