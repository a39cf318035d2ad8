"""The progress of `sweep`: that of its runs, with the last value of a metric."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from eclipse_pl.launch.local import Status
from eclipse_pl.launch.progress import TaskProgress
from eclipse_pl.sweeps.results import last_metrics


class SweepProgress(TaskProgress):
    """Shows state, time and last metric of every run."""

    def __init__(self, name: str, metric: str | None) -> None:
        super().__init__(name, "run", metric)
        self._values: dict[Path, tuple[int, str]] = {}

    def value(self, status: Status) -> str:
        """The metric's last value; the file is read again only where it has grown."""
        path = status.task.path / "metrics.csv"
        if self.column is None or not path.is_file():
            return ""
        known, value = self._values.get(path, (-1, ""))
        size = os.path.getsize(path)
        if known != size:
            with contextlib.suppress(KeyError, ValueError):  # not logged yet, or half a line
                value = f"{float(last_metrics(status.task.path)[self.column]):.4f}"
            self._values[path] = (size, value)
        return value
