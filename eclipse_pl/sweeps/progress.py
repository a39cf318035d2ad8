"""The progress of `sweep`: a table on a terminal, a line at every change elsewhere."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from eclipse_pl.launch.local import State, Status
from eclipse_pl.sweeps.results import last_metrics

STYLES: dict[State, str] = {
    "running": "bold", "stopping": "yellow", "failed": "red", "stopped": "yellow", "waiting": "dim", "finished": "green"
}  # fmt: skip
"""States in the order in which a table shows them that is too long for the screen."""


class SweepProgress:
    """Shows state, time and last metric of every run. It is called with all of them at every change."""

    def __init__(self, name: str, metric: str | None) -> None:
        self.name, self.metric = name, metric
        self.console = Console(highlight=False, width=None if Console().is_terminal else 160)
        self._live = Live(console=self.console, refresh_per_second=4, transient=True) if self.console.is_terminal else None
        self._told: dict[str, State] = {}
        self._values: dict[Path, tuple[int, str]] = {}

    def __call__(self, statuses: Sequence[Status]) -> None:
        if self._live is not None:
            self._live.update(self._table(statuses, self.console.height - 4))
            return
        for status in statuses:
            before = self._told.get(status.task.name, "waiting")
            self._told[status.task.name] = status.state
            if status.state != before and not (status.state == "finished" and before == "waiting"):
                value = self._value(status)
                seconds = f" after {clock(status.seconds)}" if status.state in ("finished", "failed", "stopped") else ""
                shown = f", {self.metric} {value}" if value and status.state == "finished" else ""
                line = f"{status.task.name}: {status.state}{seconds}{shown} ({counts(statuses)})"
                self.console.print(line, soft_wrap=True, markup=False)

    def _table(self, statuses: Sequence[Status], height: int) -> Table:
        table = Table(title=f"{self.name}: {counts(statuses)}", title_justify="left", box=None)
        for column in ("run", "state", "time", *([self.metric] if self.metric else [])):
            table.add_column(column, justify="left" if column in ("run", "state") else "right")
        order = list(STYLES)
        shown = sorted(range(len(statuses)), key=lambda place: order.index(statuses[place].state))[: max(height, 1)]
        for status in (statuses[place] for place in sorted(shown)):
            time = clock(status.seconds) if status.state != "waiting" else ""
            value = [self._value(status)] if self.metric else []
            table.add_row(status.task.name, status.state, time, *value, style=STYLES[status.state])
        return table

    def _value(self, status: Status) -> str:
        """The metric's last value; the file is read again only where it has grown."""
        path = status.task.path / "metrics.csv"
        if self.metric is None or not path.is_file():
            return ""
        known, value = self._values.get(path, (-1, ""))
        size = os.path.getsize(path)
        if known != size:
            with contextlib.suppress(KeyError, ValueError):  # not logged yet, or half a line
                value = f"{float(last_metrics(status.task.path)[self.metric]):.4f}"
            self._values[path] = (size, value)
        return value

    def __enter__(self) -> SweepProgress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()


def counts(statuses: Sequence[Status]) -> str:
    number = Counter(status.state for status in statuses)
    return ", ".join(f"{number[state]} {state}" for state in STYLES if number[state])


def clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
