"""Share: the shards that one of several processes makes, on one machine or on many."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Name = TypeVar("Name")


@dataclass(frozen=True)
class Share:
    """Every ``count``-th shard, from ``index`` on."""

    index: int = 0
    count: int = 1

    @classmethod
    def of_options(cls, task_index: int | None, task_count: int | None) -> Share:
        """The share that a command line names. Without an index it is that of SLURM's job array.

        Raises:
            ValueError: One option lacks the other, or the index is too large.
        """
        if task_count is None:
            if task_index is not None:
                raise ValueError(f"--task-index {task_index} needs --task-count, the number of all tasks.")
            return cls()
        if task_index is None:
            if "SLURM_ARRAY_TASK_ID" not in os.environ:
                raise ValueError(
                    f"--task-count {task_count} needs --task-index, from 0 to {task_count - 1}; in a job array of SLURM "
                    "SLURM_ARRAY_TASK_ID takes its place."
                )
            task_index = int(os.environ["SLURM_ARRAY_TASK_ID"]) - int(os.environ.get("SLURM_ARRAY_TASK_MIN", "0"))
        if not 0 <= task_index < task_count:
            raise ValueError(f"--task-index is {task_index}; with --task-count {task_count} it is 0 to {task_count - 1}.")
        return cls(task_index, task_count)

    @property
    def is_whole(self) -> bool:
        return self.count == 1

    def of(self, names: Sequence[Name]) -> list[Name]:
        """This share of some names."""
        return list(names[self.index :: self.count])

    def first_of(self, names: Sequence[Name]) -> list[Name]:
        """All names, those of this share first. The others are shuffled, so that processes begin with different ones."""
        if self.is_whole:
            return list(names)
        own = self.of(names)
        others = [names[number] for number in range(len(names)) if number % self.count != self.index]
        return own + [others[place] for place in np.random.default_rng(self.index).permutation(len(others))]

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}"
