"""Calls of one function for many items: in this process, in several, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Literal, TypeVar

from eclipse_pl.launch.effect import require_effect
from eclipse_pl.launch.ray import RETRIES, connected

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Engine:
    """Where calls run.

    Args:
        name: "local" for this machine, "ray" for a cluster whose nodes see the same files.
        jobs: Processes of this machine. 1 calls in this process.
        address: The Ray cluster; None starts one on this machine.

    Raises:
        ValueError: An option has no effect, or is out of its range.
    """

    name: Literal["local", "ray"] = "local"
    jobs: int | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        require_effect(self.name, jobs=self.jobs, ray_address=self.address)

    def each(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """The results in the order of the items. A call whose Ray worker dies is repeated on another one."""
        if self.name == "ray":
            with connected(self.address) as ray:
                remote = ray.remote(num_cpus=1, max_retries=RETRIES)(_call)
                for pending in [remote.remote(function, item) for item in items]:
                    yield ray.get(pending)
        elif (self.jobs or 1) == 1:
            yield from map(function, items)
        else:
            with ProcessPoolExecutor(self.jobs, mp_context=get_context("spawn")) as pool:
                yield from pool.map(function, items)


def _call(function: Callable[[Item], Result], item: Item) -> Result:
    return function(item)
