"""The progress of many tasks: a table on a terminal, a line at every change elsewhere."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from eclipse_pl.launch.local import State, Status

STYLES: dict[State, str] = {
    "running": "bold", "stopping": "yellow", "failed": "red", "stopped": "yellow", "waiting": "dim", "finished": "green"
}  # fmt: skip
"""States in the order in which a table shows them that is too long for the screen."""


class TaskProgress:
    """Shows state and time of every task, and a value if ``column`` names one. It is called with all tasks at every change.

    Args:
        name: Title of the table.
        kind: What a task is called: "run".
        column: Name of the value that `value` gives, or None.
    """

    def __init__(self, name: str, kind: str, column: str | None = None) -> None:
        self.name, self.kind, self.column = name, kind, column
        self.console = Console(highlight=False, width=None if Console().is_terminal else 160)
        self._live = Live(console=self.console, refresh_per_second=4, transient=True) if self.console.is_terminal else None
        self._told: dict[str, State] = {}

    def __call__(self, statuses: Sequence[Status]) -> None:
        if self._live is not None:
            self._live.update(self._table(statuses, self.console.height - 4))
            return
        for status in statuses:
            before = self._told.get(status.task.name, "waiting")
            self._told[status.task.name] = status.state
            if status.state != before and not (status.state == "finished" and before == "waiting"):
                value = self.value(status)
                seconds = f" after {clock(status.seconds)}" if status.state in ("finished", "failed", "stopped") else ""
                shown = f", {self.column} {value}" if value and status.state == "finished" else ""
                line = f"{status.task.name}: {status.state}{seconds}{shown} ({counts(statuses)})"
                self.console.print(line, soft_wrap=True, markup=False)

    def _table(self, statuses: Sequence[Status], height: int) -> Table:
        table = Table(title=f"{self.name}: {counts(statuses)}", title_justify="left", box=None)
        for column in (self.kind, "state", "time", *([self.column] if self.column else [])):
            table.add_column(column, justify="left" if column in (self.kind, "state") else "right")
        order = list(STYLES)
        shown = sorted(range(len(statuses)), key=lambda place: order.index(statuses[place].state))[: max(height, 1)]
        for status in (statuses[place] for place in sorted(shown)):
            time = clock(status.seconds) if status.state != "waiting" else ""
            value = [self.value(status)] if self.column else []
            table.add_row(status.task.name, status.state, time, *value, style=STYLES[status.state])
        return table

    def value(self, status: Status) -> str:
        """The value of a task, or ""."""
        return ""

    def __enter__(self) -> TaskProgress:
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


def report_failures(statuses: Sequence[Status], kind: str, kept: Path | None = None) -> None:
    """Print the tasks that failed, or finished with an error, with their logs, and end with exit code 1 if there are any.

    ``kept`` is a file that keeps the results of finished tasks, too.
    """
    also = f" and remove its line from {kept}" if kept else ""
    failed = [(status, status.message) for status in statuses if status.state == "failed"]
    with_error = [(status, f"exit code {status.error_code}") for status in statuses if status.error_code]
    for found, what in (
        (failed, "failed; the same command runs them again"),
        (with_error, f"finished with an error; results are kept. To run one again, move its folder away{also}"),
    ):
        if found:
            print(f"{len(found)} of {len(statuses)} {kind}s {what}:", file=sys.stderr)
        for status, message in found:
            print("  " + ": ".join(filter(None, (str(status.task.log), message, status.last_words))), file=sys.stderr)
    if failed or with_error:
        raise SystemExit(1)
