"""A folder behind a command that prints one of its files: ``pipe:ssh host cat /data/karlo/{}``."""

from __future__ import annotations

import os
import select
import shlex
from collections.abc import Generator

from eclipse_pl.data import remote_folder
from eclipse_pl.data.remote_folder import STREAM_BLOCK, NoRangesError, RemoteFolder, without_query


class PipeFolder(RemoteFolder):
    """A folder that webdataset's ``pipe:`` reads. It knows whole files only.

    Args:
        url: ``pipe:`` and a command for the shell. ``{}`` stands for the name of the file.
        connections: Number of threads that read at the same time.
    """

    has_ranges = False

    def __init__(self, url: str, connections: int = 8) -> None:
        super().__init__(url, connections)
        if "{}" not in url:
            raise ValueError(
                f"{without_query(url)} does not say where the name of a file belongs. Write {{}} there: "
                "'pipe:ssh host cat /data/karlo/{}'."
            )

    def place(self, name: str) -> str:
        return self.url.replace("{}", shlex.quote(name))

    def stream(self, name: str) -> Generator[bytes]:
        from webdataset.gopen import gopen

        pipe = gopen(self.place(name))
        output = pipe.proc.stdout
        try:
            while True:
                if not select.select([output], [], [], remote_folder.STALLED)[0]:
                    raise TimeoutError(f"its command printed nothing for {remote_folder.STALLED} s")
                if not (block := os.read(output.fileno(), STREAM_BLOCK)):
                    break
                yield block
            if status := pipe.proc.wait():
                raise OSError(f"its command ended with exit code {status}")
        finally:
            pipe.ignore_errors = True  # a command that is ended here fails, and closing must not raise that
            pipe.proc.kill()
            pipe.close()

    def _request(self, name: str, start: int | None, stop: int | None) -> bytes:
        if start is not None:
            raise NoRangesError
        return b"".join(self.stream(name))
