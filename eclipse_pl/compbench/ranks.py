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
    """The processes that share a benchmark, seen from one of them. The default is a single process.

    The caller passes rank and count, because they are never read from the environment.
    """

    rank: int = 0
    count: int = 1
    barrier: Callable[[], None] = nothing
    broadcast: Callable[[Any], Any] = same
    """Sends a value from rank 0 to all ranks."""

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def owns(self, number: int) -> bool:
        """Return whether this process works on block ``number``. A block's content does not depend on ``count``."""
        return number % self.count == self.rank
