"""``python -m eclipse_pl.speed.slow_server FOLDER BYTES_PER_SECOND LATENCY``: a folder by HTTP over a line of known speed."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BLOCK = 1 << 16


@contextmanager
def slow_server(folder: Path, rate: float, latency: float) -> Iterator[str]:
    """URL of a server in another process, which answers ranges of bytes.

    Args:
        folder: What it serves.
        rate: Bytes a second of all connections together.
        latency: Seconds before each answer.
    """
    command = [sys.executable, "-m", __name__, str(folder), str(rate), str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder: Path, rate: float, latency: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.rate, self.latency = folder, rate, latency
        self._lock, self._free_at = threading.Lock(), 0.0

    def wait_for(self, size: int) -> None:
        """Return when the line, which all connections share, has sent so many bytes."""
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + size / self.rate
            wait = self._free_at - time.monotonic()
        time.sleep(max(0, wait))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        path = self.server.folder / self.path.lstrip("/")
        size = path.stat().st_size
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        first, last = (int(asked[1]), int(asked[2])) if asked else (0, size - 1)
        time.sleep(self.server.latency)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(last + 1 - first))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        with path.open("rb") as file:
            file.seek(first)
            for start in range(first, last + 1, BLOCK):
                block = file.read(min(BLOCK, last + 1 - start))
                self.server.wait_for(len(block))
                self.wfile.write(block)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""


if __name__ == "__main__":
    server = _Server(Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
