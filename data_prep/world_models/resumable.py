from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from eclipse_pl.files import atomic_path

SAVE_EVERY = 250  # steps


def generator_of(seed: int, step: int) -> torch.Generator:
    """Return random numbers that depend on the step alone, not on interruptions."""
    return torch.Generator().manual_seed(seed * 10**9 + step)


class Resumable:
    """A training loop whose state is kept in one file. A killed run resumes from it.

    Args:
        path: The file. Writes are atomic.
        recipe: Settings of the training. A file with other settings is refused.
        parts: Objects with a ``state_dict``: modules, averages, optimizers.
    """

    def __init__(self, path: Path, recipe: dict[str, Any], **parts: Any) -> None:
        self.path, self.recipe, self.parts = path, recipe, parts
        self.step, self.seconds = 0, 0.0
        self._reported: dict[str, list[float]] = defaultdict(list)
        if path.is_file():
            state = torch.load(path, weights_only=True)
            if state["recipe"] != recipe:
                raise ValueError(
                    f"{path} has other settings ({state['recipe']}, now {recipe}): remove it to start again, or choose "
                    "another folder as `work`."
                )
            for name, part in parts.items():
                part.load_state_dict(state[name])
            self.step, self.seconds = state["step"], state["seconds"]
            print(f"{path}: resumed after step {self.step}", flush=True)

    def steps(self, last: int) -> Iterator[int]:
        """Yield the remaining steps. The state is saved after every `SAVE_EVERY` steps and after the last."""
        self.last, began = last, time.process_time() - self.seconds
        while self.step < last:
            yield self.step
            self.step += 1
            self.seconds = time.process_time() - began
            if self.step % SAVE_EVERY == 0 or self.step == last:
                self.save()

    def save(self) -> None:
        state = {name: part.state_dict() for name, part in self.parts.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.path) as temporary:
            torch.save({**state, "recipe": self.recipe, "step": self.step, "seconds": self.seconds}, temporary)

    def report(self, every: int, **values: float) -> None:
        """Print the mean of ``values`` every ``every`` steps."""
        for name, value in values.items():
            self._reported[name].append(value)
        if (self.step + 1) % every == 0:
            means = "  ".join(f"{name} {sum(those) / len(those):.4f}" for name, those in self._reported.items())
            print(f"{self.path.stem} step {self.step + 1}/{self.last}  {means}  {self.seconds:,.0f} s of CPU time", flush=True)
            self._reported.clear()
