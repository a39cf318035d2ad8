"""Downloads ahead of use: threads get what a plan names, in its order, up to a stated number of entries ahead."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Generic, TypeVar

CLOSING = 5
"""Seconds that `ReadAhead.close` waits for threads. A thread that has to wait for a server longer ends by itself."""

Item = TypeVar("Item", bound=Hashable)
Got = TypeVar("Got")


@dataclass(eq=False)
class _Planned(Generic[Item, Got]):
    item: Item
    place: int
    started: bool = False
    ready: threading.Event = field(default_factory=threading.Event)
    got: Got | None = None


class ReadAhead(Generic[Item, Got]):
    """Threads that get the items of a plan, at most ``ahead`` places behind the furthest one that was used.

    An item that fails is left out. Whoever needs it gets it without this object, and sees the error.

    Args:
        get: Function from an item, and an event that is set when the result is not needed any more, to the result.
        plan: Items in the order of their use. It may be endless, and an item may occur again.
        ahead: Number of items.
        threads: Number of threads.
    """

    def __init__(self, get: Callable[[Item, threading.Event], Got], plan: Iterable[Item], ahead: int, threads: int) -> None:
        self._get = get
        self._plan = enumerate(plan)
        self._ahead = ahead
        self._furthest = 0
        self._last = -1
        self._planned: list[_Planned[Item, Got]] = []
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._work, daemon=True, name=f"download {n}") for n in range(threads)]
        with self._changed:
            self._reach(0)
        for thread in self._threads:
            thread.start()

    def take(self, item: Item) -> Got | None:
        """What a thread got; None if none did. Waits for a thread that is at it, and never for one that has not begun."""
        with self._changed:
            planned = self._find(item)
            if planned is None:
                return None
            self._planned.remove(planned)
            self._reach(planned.place + 1)
        if not planned.started:
            return None
        planned.ready.wait()
        return planned.got

    def passed(self, item: Item) -> None:
        """Note that an item was used that came from elsewhere."""
        with self._changed:
            if (planned := self._find(item)) and planned.place >= self._furthest:
                self._planned.remove(planned)
                self._reach(planned.place + 1)

    @property
    def closed(self) -> bool:
        return self._stopped.is_set()

    def close(self) -> None:
        """Stop the threads. What they got and nobody took is forgotten."""
        with self._changed:
            self._stopped.set()
            self._planned.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(CLOSING)

    def __enter__(self) -> ReadAhead[Item, Got]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _find(self, item: Item) -> _Planned[Item, Got] | None:
        return next((planned for planned in self._planned if planned.item == item), None)

    def _reach(self, place: int) -> None:
        """Plan further items, and forget those that were passed over long ago."""
        self._furthest = max(self._furthest, place)
        self._planned = [planned for planned in self._planned if planned.place >= self._furthest - self._ahead]
        while self._last + 1 < self._furthest + self._ahead:
            following = next(self._plan, None)
            if following is None:
                break
            self._last, item = following
            self._planned.append(_Planned(item, self._last))
        self._changed.notify_all()

    def _next(self) -> _Planned[Item, Got] | None:
        with self._changed:
            while not self._stopped.is_set():
                for planned in self._planned:
                    if not planned.started:
                        planned.started = True
                        return planned
                self._changed.wait()
        return None

    def _work(self) -> None:
        while (planned := self._next()) is not None:
            try:
                planned.got = self._get(planned.item, self._stopped)
            except Exception:  # whoever needs the item tries again, and gets the error
                pass
            finally:
                planned.ready.set()
            del planned  # it holds the result
