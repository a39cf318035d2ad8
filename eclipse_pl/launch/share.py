"""Share: the shards that one of several processes makes, on one machine or on many."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Name = TypeVar("Name")
_SLURM = "SLURM_ARRAY_TASK_"


@dataclass(frozen=True)
class Share:
    """Every ``count``-th shard, from ``index`` on."""

    index: int = 0
    count: int = 1

    @classmethod
    def of_options(cls, task_index: int | None, task_count: int | None) -> Share:
        """The share that a command line names. Without an index it is that of SLURM's job array.

        Raises:
            ValueError: One option lacks the other, the index is too large, or the job array is not that of all tasks.
        """
        if task_count is None:
            if task_index is not None:
                raise ValueError(f"--task-index {task_index} needs --task-count, the number of all tasks.")
            return cls()
        if task_index is None:
            task_index = _index_in_array(task_count)
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


def _index_in_array(task_count: int) -> int:
    """The index of this task in SLURM's job array of all tasks, which begins at any number, or in a part of one from 0.

    Raises:
        ValueError: There is no array, or it may be a part of one that began at another number: tasks 5 and 7 alone have other
            indices in an array 0-63 than in 1-64.
    """
    array = {
        name: int(os.environ[variable]) for name in ("ID", "MIN", "MAX", "COUNT") if (variable := _SLURM + name) in os.environ
    }
    if "ID" not in array:
        raise ValueError(
            f"--task-count {task_count} needs --task-index, from 0 to {task_count - 1}; in a job array of SLURM "
            "SLURM_ARRAY_TASK_ID takes its place."
        )
    number, first = array["ID"], array.get("MIN", 0)
    is_whole = array.get("COUNT") == task_count and array.get("MAX") == first + task_count - 1
    if first and not is_whole:
        raise ValueError(
            f"This task is number {number} of a job array of SLURM that begins at {first} and is not one of {task_count} "
            f"numbers in a row (--task-count {task_count}), so its share is not known. Name it: --task-index "
            "$SLURM_ARRAY_TASK_ID where the first array began at 0, and --task-index $((SLURM_ARRAY_TASK_ID - 1)) where it "
            "began at 1."
        )
    return number - first
