"""An HTTP server of a folder on loopback, with range requests, that fails in a known share of its answers."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random

BLOCK = 1 << 16


@dataclass
class Faults:
    """How a server misbehaves. Shares are probabilities of one answer; ``rate`` is the bytes/s of all connections together."""

    fail: float = 0
    stall: float = 0
    truncate: float = 0
    corrupt: float = 0
    ranges: bool = True
    status: int = 503
    latency: float = 0
    rate: float | None = None
    stall_seconds: float = 5
    only: str = ""
    """Only files whose name contains this are served badly."""
    random: Random = field(default_factory=lambda: Random(0))


class UnreliableServer(ThreadingHTTPServer):
    """Serves ``folder``. ``faults`` may change while it runs; ``seen`` counts what happened, and ``requests`` lists paths."""

    daemon_threads = True

    def __init__(self, folder: Path, faults: Faults) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.faults = folder, faults
        self.seen: Counter[str] = Counter()
        self.requests: list[tuple[str, str]] = []
        self.answers: dict[str, bytes] = {}
        """What is answered to a path that is no file."""
        self.lock = threading.Lock()
        self.free_at = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def ranges_of(self, ending: str) -> list[tuple[str, str]]:
        """The requests for files of this ending so far: path and range."""
        with self.lock:
            return [(path, asked) for path, asked in self.requests if path.endswith(ending)]

    def draw(self, name: str) -> str:
        """What happens to an answer."""
        with self.lock:
            drawn, faults = self.faults.random.random(), self.faults
            if faults.only in name:
                for kind in ("fail", "stall", "truncate", "corrupt"):
                    if drawn < getattr(faults, kind):
                        self.seen[kind] += 1
                        return kind
                    drawn -= getattr(faults, kind)
            self.seen["good"] += 1
            return "good"

    def pay(self, size: int) -> None:
        """Wait until the line, which all connections share, has sent these bytes."""
        if self.faults.rate is not None:
            with self.lock:
                self.free_at = max(self.free_at, time.monotonic()) + size / self.faults.rate
                wait = self.free_at - time.monotonic()
            time.sleep(max(0, wait))

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: UnreliableServer

    def do_GET(self) -> None:
        server, faults = self.server, self.server.faults
        name = self.path.partition("?")[0].lstrip("/")
        asked = self.headers.get("Range", "")
        with server.lock:
            server.requests.append((self.path, asked))
        time.sleep(faults.latency)
        if f"/{name}" in server.answers:
            self.answer(200, server.answers[f"/{name}"], {"Content-Type": "application/json"})
            return
        path = server.folder / name
        happens = server.draw(name)
        if happens == "fail" or not path.is_file():
            self.answer(faults.status if happens == "fail" else 404, b"")
            return
        size, found = path.stat().st_size, re.fullmatch(r"bytes=(\d+)-(\d+)", asked)
        partial = bool(found) and faults.ranges
        first, last = (int(found[1]), min(int(found[2]), size - 1)) if found and partial else (0, size - 1)
        with path.open("rb") as file:
            file.seek(first)
            content = file.read(last - first + 1)
        if happens == "corrupt" and content:
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
        headers = {"Content-Range": f"bytes {first}-{last}/{size}"} if partial else {}
        self.answer(206 if partial else 200, content, headers, happens)

    def answer(self, status: int, content: bytes, headers: dict[str, str] | None = None, happens: str = "good") -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if happens in ("stall", "truncate"):
            content = content[: len(content) // 2]
        for start in range(0, len(content), BLOCK):
            self.server.pay(len(content[start : start + BLOCK]))
            self.wfile.write(content[start : start + BLOCK])
        if happens == "stall":
            time.sleep(self.server.faults.stall_seconds)
        if happens in ("stall", "truncate"):
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""


@contextmanager
def serving(folder: Path, faults: Faults | None = None) -> Iterator[UnreliableServer]:
    """A server of ``folder`` for the block."""
    server = UnreliableServer(folder, faults or Faults())
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
