"""Tests that start processes have the marker `processes`: `make quick` leaves them out, and fails where another starts one."""

from __future__ import annotations

import multiprocessing.process
import sys
from typing import Any

import pytest

EVENTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}
INCIDENTAL = "print(json.dumps(sys.path))"
"""In the command by which jsonargparse asks Python for its path, once a process, where it looks for the types of libraries."""


class ProcessGuard:
    """A pytest plugin: a test without the marker cannot start a process, nor can a fixture that is made for it."""

    def __init__(self) -> None:
        self.forbidden: str | None = None  # the test that runs, if it may not
        sys.addaudithook(self._heard)
        start = multiprocessing.process.BaseProcess.start

        def guarded_start(process: Any) -> None:
            self._heard("multiprocessing", (process,))  # `spawn` and `forkserver` raise no audit event
            start(process)

        multiprocessing.process.BaseProcess.start = guarded_start  # type: ignore[method-assign]

    def _heard(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen" and (INCIDENTAL in str(args[1]) or args[0] == "uname"):  # by `platform`, once, too
            return
        if self.forbidden and (event in EVENTS or event == "multiprocessing"):
            test, self.forbidden = self.forbidden, None  # pytest may start some while it reports
            pytest.fail(f"{test} starts a process ({event}, {args[:1]}): mark it with `processes`")

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self.forbidden = None if item.get_closest_marker("processes") else item.nodeid
        yield
        self.forbidden = None
