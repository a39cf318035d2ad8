from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def nothing() -> None:
    pass


def same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Ranks:
    """This process among those that share a work. The default is a process by itself.

    Rank and count are given as numbers, never read from the environment; who starts the processes knows them.
    """

    rank: int = 0
    count: int = 1
    barrier: Callable[[], None] = nothing
    broadcast: Callable[[Any], Any] = same
    """From rank 0 to all."""

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def owns(self, number: int) -> bool:
        """Whether block ``number`` of the work is this process's; what is in a block does not depend on how many share it."""
        return number % self.count == self.rank
