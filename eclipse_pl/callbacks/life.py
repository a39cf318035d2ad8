"""Signs of life of processes that train together, by which a process that died or is late is named."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from typing import Any

BEAT = 1.0
"""Seconds between two signs of life of a rank."""
SILENCE = 30.0
"""Seconds without a sign of life after which a rank is taken for dead. Some calls of libraries keep all threads waiting."""
SILENCE_AFTER_ERROR = 4.0
"""The same where a connection to another rank has broken."""
WAITS_IN = (f"torch{os.sep}distributed{os.sep}", f"torch{os.sep}nn{os.sep}parallel{os.sep}", f"torch{os.sep}autograd{os.sep}")
"""Code in which a rank waits for others. In autograd it is the backward pass, where gradients are averaged."""


class SignsOfLife:
    """What each rank tells all others about itself, in the store through which they found each other.

    A rank writes a sign every `BEAT` seconds, from a thread. The sign counts what its main thread has begun and ended (the
    batches), so that a rank is seen to be late for which the others wait. Where two ranks have come equally far, the one that
    waits in a collective is not the late one.

    Args:
        store: A store of torch.distributed.
        rank: Number of this rank.
        ranks: Number of all.
    """

    def __init__(self, store: Any, rank: int, ranks: int) -> None:
        self._store, self._rank = store, rank
        self._keys = [f"life/{number}" for number in range(ranks)]
        self._moves, self._moved = 0, time.monotonic()
        self._place = "before its first batch"
        self._numbers: tuple[int, ...] = ()
        self._beats, self._sent = 0, -BEAT
        self._signs: list[dict[str, Any]] = []
        self._heard: dict[int, tuple[int, float]] = {}
        """By rank: its last count of beats, and when it was new here."""
        self._main = threading.main_thread().ident

    def move(self, place: str, *numbers: int) -> None:
        """The main thread has come to this place: ``numbers`` are filled in where the place is told."""
        self._moves += 1
        self._moved = time.monotonic()
        self._place, self._numbers = place, numbers

    def send(self) -> None:
        """Write a sign if one is due. Raises RuntimeError if the rank that keeps the store is gone."""
        if time.monotonic() - self._sent < BEAT:
            return
        self._sent = time.monotonic()
        self._beats += 1
        frame = sys._current_frames().get(self._main or 0)
        code = None if frame is None else frame.f_code
        sign = {
            "beats": self._beats,
            "moves": self._moves,
            "still": time.monotonic() - self._moved,
            "place": self._place.format(*self._numbers),
            "waits": code is not None and any(part in code.co_filename for part in WAITS_IN),
            "line": f"{code.co_name} in {os.path.basename(code.co_filename)}:{frame.f_lineno}" if code and frame else "",
            "process": f"process {os.getpid()} on {socket.gethostname()}",
        }
        self._store.set(self._keys[self._rank], json.dumps(sign))

    def say_goodbye(self) -> None:
        """This rank ends, and is not to be taken for dead."""
        self._store.set(self._keys[self._rank], json.dumps({"beats": -1}))

    def hear(self) -> None:
        """Read the signs of all. Raises RuntimeError if the rank that keeps the store is gone."""
        if not self._store.check(self._keys):  # some have not begun
            return
        self._signs = [json.loads(sign) for sign in self._store.multi_get(self._keys)]
        for rank, sign in enumerate(self._signs):
            if sign["beats"] != self._heard.get(rank, (0, 0.0))[0]:
                self._heard[rank] = sign["beats"], time.monotonic()

    def dead(self, seconds: float = SILENCE) -> list[int]:
        """The ranks that have given no sign for so long."""
        now = time.monotonic()
        return [rank for rank, (beats, heard) in self._heard.items() if beats > 0 and now - heard > seconds]

    def dead_now(self) -> list[int]:
        """The ranks that give no sign from now on. It takes `SILENCE_AFTER_ERROR` seconds."""
        end = time.monotonic() + SILENCE_AFTER_ERROR
        while time.monotonic() < end:
            self.hear()
            time.sleep(BEAT / 4)
        return self.dead(SILENCE_AFTER_ERROR - BEAT)

    def late(self, seconds: float) -> list[int]:
        """The ranks for which all others have waited for so long."""
        signs = [sign for sign in self._signs if sign["beats"] > 0]
        if len(signs) < len(self._keys):
            return []
        most = max(sign["moves"] for sign in signs)
        ahead = [sign for sign in signs if sign["moves"] == most]
        if min(sign["still"] for sign in ahead) < seconds:
            return []
        if len(ahead) < len(signs):
            return [rank for rank, sign in enumerate(signs) if sign["moves"] < most]
        if any(sign["waits"] for sign in signs):
            return [rank for rank, sign in enumerate(signs) if not sign["waits"]]
        return []

    def name(self, rank: int) -> str:
        """Rank, process and machine."""
        sign = self._signs[rank] if self._signs else {}
        return f"rank {rank} ({sign['process']})" if sign.get("process") else f"rank {rank}"

    def where(self, rank: int) -> str:
        """The place at which the rank is, or was."""
        sign = self._signs[rank]
        return f"{sign['place']}, {sign['line']}"
