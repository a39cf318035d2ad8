"""A folder behind a URL: whole files and ranges of their bytes, with further tries where a request fails."""

from __future__ import annotations

import os
import random
import re
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Mean seconds before each further try."""
STALLED = 60
"""Seconds without a byte after which a request has failed."""
STREAM_BLOCK = 1 << 20
NEVER = threading.Event()

_URL = re.compile(r"[a-z][a-z0-9+.-]*://|pipe:")
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
_CREDENTIALS = {
    "s3": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; for a public bucket set FSSPEC_S3_ANON=true.",
    "gs": "Set GOOGLE_APPLICATION_CREDENTIALS to a file of credentials; for a public bucket set FSSPEC_GS_TOKEN=anon.",
    "hf": "Set HF_TOKEN to a token that may read this repository.",
}
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError", "GatedRepoError")
Answer = TypeVar("Answer")


class NoRangesError(Exception):
    """The server sends whole files only."""


class StoppedError(Exception):
    """The download is not needed any more."""


def is_url(folder: object) -> bool:
    """Whether a set of shards lies behind a URL. Everything else is a local path."""
    return _URL.match(str(folder)) is not None


def without_query(folder: object) -> str:
    """A folder for messages and tables: a URL without its query, which may be a secret."""
    return str(folder).partition("?")[0] if is_url(folder) else str(folder)


class RemoteFolder:
    """A folder that fsspec reads (s3, gs, https, hf, file, ...). Threads may share it; another process opens its own.

    Args:
        url: URL of the folder. A query (``?...``) is kept behind the names of its files.
        connections: Number of threads that read at the same time.
    """

    has_ranges = True
    """False if only whole files can be read. It may turn out at the first request."""

    def __init__(self, url: str, connections: int = 8) -> None:
        self.url = url.rstrip("/")
        self.connections = connections
        self._file_system: Any = None
        self._process = 0
        self._random = random.Random()  # not seeded by the run: its ranks would wait equally long
        self._opening = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "connections": self.connections, "has_ranges": self.has_ranges}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["url"], state["connections"])  # type: ignore[misc]
        self.has_ranges = state["has_ranges"]

    def place(self, name: str) -> str:
        """URL of a file."""
        folder, mark, query = self.url.partition("?") if self._scheme.startswith("http") else (self.url, "", "")
        return f"{folder.rstrip('/')}/{name}{mark}{query}"

    def shown(self, message: str) -> str:
        """A message without the query of the URL, which may be a secret."""
        _, mark, query = self.url.partition("?")
        return message.replace(f"?{query}", "") if mark else message

    def read(self, name: str, start: int | None = None, stop: int | None = None, stopped: threading.Event = NEVER) -> bytes:
        """The bytes of a file from ``start`` to ``stop``; without them the whole file.

        Raises:
            ValueError: Every try failed, or another try is of no use: the file is missing, credentials, a missing package.
            NoRangesError: The server ignores ranges.
            StoppedError: ``stopped`` was set.
        """

        def request() -> bytes:
            content = self._request(name, start, stop)
            if start is not None and stop is not None and len(content) != stop - start:
                raise OSError(f"{len(content)} of {stop - start} bytes arrived")
            return content

        return self.try_often(name, request, stopped)

    def stream(self, name: str) -> Generator[bytes]:
        """The blocks of a file, one after another. Errors are those of the connection."""
        with self._fs.open(self.place(name), "rb", block_size=0, size=1) as file:  # with a size no request asks for it
            while block := file.read(STREAM_BLOCK):
                yield block

    def files(self) -> dict[str, int]:
        """The bytes of each file in the folder, by name; empty if there is no such folder. Errors are those of `read`."""

        def request() -> dict[str, int]:
            try:
                found = self._fs.ls(self.url, detail=True, refresh=True)
            except FileNotFoundError:
                return {}
            return {one["name"].rpartition("/")[2]: one["size"] for one in found if one["type"] == "file"}

        return self.try_often("", request)

    def glob(self, pattern: str) -> list[str]:
        """The sorted URLs that match a pattern of the folder, with ``*`` and ``?``. Errors are those of `read`."""

        def request() -> list[str]:
            return sorted(self._fs.unstrip_protocol(path) for path in self._fs.glob(self.place(pattern)))

        return self.try_often(pattern, request)

    def state(self, name: str) -> tuple[int, str]:
        """The bytes of a file, and the server's stamp of its present state or "". Errors are those of `read`."""
        info = self.try_often(name, lambda: self._fs.info(self.place(name)))
        stamps = (info.get(key) for key in ("ETag", "etag", "md5Hash", "LastModified", "mtime"))
        return int(info["size"]), next((str(stamp) for stamp in stamps if stamp), "")

    def write(self, name: str, path: Path) -> None:
        """Upload a local file. Errors are those of `read`."""
        self.try_often(name, lambda: self._fs.put_file(str(path), self.place(name)), verb="written")

    def write_bytes(self, name: str, content: bytes) -> None:
        """Upload a file with this content. Errors are those of `read`."""
        self.try_often(name, lambda: self._fs.pipe_file(self.place(name), content), verb="written")

    def remove(self, name: str) -> None:
        """Remove a file, if it is there. Errors are those of `read`."""

        def request() -> None:
            with suppress(FileNotFoundError):
                self._fs.rm_file(self.place(name))

        self.try_often(name, request, verb="removed")

    def try_often(
        self,
        name: str,
        request: Callable[[], Answer],
        stopped: threading.Event = NEVER,
        final: tuple[type[Exception], ...] = (),
        verb: str = "read",
    ) -> Answer:
        """The answer to a request, which is repeated after growing waits while it fails. ``final`` errors end it at once.

        ``verb`` says in the error what could not be done to the file.
        """
        tries = len(WAITS) + 1
        for number in range(tries):
            if stopped.is_set():
                raise StoppedError
            try:
                return request()
            except Exception as error:  # each library has errors of its own
                if isinstance(error, (NoRangesError, StoppedError, *final)):
                    raise
                if problem := self._hopeless(name, error):
                    raise ValueError(self.shown(problem)) from error
                if number == tries - 1:
                    problem = f"{self.place(name)} could not be {verb} in {tries} tries; the last error: {described(error)}"
                    kept = "what is in the cache" if verb == "read" else "what was written before"
                    raise ValueError(
                        f"{self.shown(problem)}. Start the command again when the server answers; {kept} is kept."
                    ) from error
            stopped.wait(WAITS[number] * self._random.uniform(0.5, 1.5))
        raise AssertionError("a loop that returns or raises")

    def _request(self, name: str, start: int | None, stop: int | None) -> bytes:
        from fsspec.asyn import AsyncFileSystem
        from fsspec.implementations.http import HTTPFileSystem

        path = self.place(name)
        if start is None or stop is None:
            return self._fs.cat_file(path)
        http = isinstance(self._fs, HTTPFileSystem)
        if isinstance(self._fs, AsyncFileSystem) and not http:
            return self._fs.cat_file(path, start=start, end=stop)
        try:  # cat_file of http would read the whole file where the server ignores the range
            with self._fs.open(path, "rb", cache_type="none", size=stop) as file:
                file.seek(start)
                return file.read(stop - start)
        except ValueError as error:
            if http and "range requests" in str(error):
                self.has_ranges = False
                raise NoRangesError from error
            raise

    @property
    def _scheme(self) -> str:
        return self.url.partition(":")[0]

    @property
    def _fs(self) -> Any:
        """fsspec's file system. A process that was forked cannot use that of its parent."""
        with self._opening:
            if self._process != os.getpid():
                self._file_system = self._opened()
                self._process = os.getpid()
            return self._file_system

    def _opened(self) -> Any:
        import fsspec

        options: dict[str, Any] = {}
        if self._scheme in ("http", "https"):
            from aiohttp import ClientTimeout

            options["client_kwargs"] = {"timeout": ClientTimeout(total=None, sock_connect=STALLED, sock_read=STALLED)}
        elif self._scheme in ("s3", "s3a"):
            # one try of each library, because ours are counted and told
            limits = {"connect_timeout": STALLED, "read_timeout": STALLED, "retries": {"total_max_attempts": 1}}
            options["config_kwargs"] = {**limits, "max_pool_connections": max(10, self.connections)}
        elif self._scheme in ("gs", "gcs"):
            options["requests_timeout"] = STALLED
        opened = fsspec.filesystem(self._scheme, skip_instance_cache=True, **options)
        if self._scheme in ("s3", "s3a"):
            opened.retries = 1
        return opened

    def _hopeless(self, name: str, error: Exception) -> str | None:
        """The sentence for an error that further tries do not change, otherwise None."""
        place, scheme = self.place(name), {"s3a": "s3", "gcs": "gs"}.get(self._scheme, self._scheme)
        status = getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, ImportError):
            extra = _EXTRAS.get(self._scheme)
            remedy = f" Install it: `pip install 'eclipse_pl[{extra}]'`." if extra else ""
            return f"{place} needs a package that is missing ({described(error)}).{remedy}"
        if type(error).__name__ == "OfflineModeIsEnabled":
            return f"{place} cannot be read ({described(error)})."
        if isinstance(error, ValueError) and "not known" in str(error):
            return f"{place} cannot be read: {described(error)}. Use s3://, gs://, https:// or hf://, or a local folder."
        if isinstance(error, NotImplementedError):
            return f"{place} cannot be written: files behind {self._scheme}: can only be read. Use s3:// or gs://."
        if isinstance(error, FileNotFoundError) or status == 404:
            return f"There is no {place} ({described(error)}). Check the URL{_or_token(scheme)}."
        if isinstance(error, PermissionError) or type(error).__name__ in _NO_CREDENTIALS or status in (401, 403):
            return f"Access to {place} was refused ({described(error)}). {_CREDENTIALS.get(scheme, 'Check the URL.')}"
        if scheme == "s3" and (isinstance(error, RecursionError) or "PermanentRedirect" in str(error)):
            # botocore follows a redirect to the bucket's region, again and again where the server does not name the region
            return f"{place} lies in another region than the one asked. Set AWS_DEFAULT_REGION to the region of the bucket."
        if isinstance(status, int) and 400 <= status < 500 and status not in (408, 416, 429):
            return f"The server refuses to send {place} ({described(error)}). Check the URL."
        return None


def described(error: BaseException) -> str:
    """An error in one line."""
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _or_token(scheme: str) -> str:
    """The hub answers as if a private repository did not exist."""
    return "; for a private repository set HF_TOKEN" if scheme == "hf" else ""
