from __future__ import annotations

import csv
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only


class MetricsFile(Logger):
    """``metrics.csv`` of a run: a row whenever something was logged, a column for each metric.

    A run that is resumed continues the same file after the rows that were there when its checkpoint was written (`keep`, or
    before the first step that it makes again). Lightning's CSVLogger would delete the file first. Columns may appear at any
    time; the file is then written anew.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / "metrics.csv"
        self._columns: list[str] = ["step"]
        self._new: list[dict[str, Any]] = []
        self._last: dict[str, Any] = {}
        self._started = False
        self._kept: int | None = None
        self._written = 0

    @property
    def name(self) -> str:
        return self.path.parent.parent.name

    @property
    def version(self) -> str:
        return self.path.parent.name

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    @property
    def rows(self) -> int:
        """Of this run by now, those before it was resumed included."""
        return (self._written if self._started else self._kept or 0) + len(self._new)

    def keep(self, rows: int) -> None:
        """Resume after the first ``rows`` rows of the file; nothing is changed before something new is logged."""
        self._kept = rows if self.path.is_file() else 0

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The resolved config lies beside the file as config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = {"step": step, **metrics}
        if row == self._last:  # logged once more, after a checkpoint
            return
        self._last = dict(row)
        if self._new and self._new[-1]["step"] == step:
            self._new[-1].update(row)
        else:
            self._new.append(row)

    @rank_zero_only
    def save(self) -> None:
        if not self._new:
            return
        columns = sorted({*self._columns, *(name for row in self._new for name in row)} - {"step"})
        if self._started and columns == self._columns[1:]:
            with open(self.path, "a", newline="") as file:
                csv.DictWriter(file, self._columns).writerows(self._new)
        else:
            before = self._rows_before(self._new[0]["step"])
            self._columns = ["step", *sorted({*columns, *(name for row in before for name in row)} - {"step"})]
            self._write([*before, *self._new])
            self._written = len(before)
        self._written += len(self._new)
        self._started, self._new = True, []

    def _rows_before(self, step: int) -> list[dict[str, Any]]:
        if not self.path.is_file():
            return []
        rows = read_metrics(self.path)
        if self._started:
            return rows
        return [row for row in rows if int(row["step"]) < step] if self._kept is None else rows[: self._kept]

    def _write(self, rows: list[dict[str, Any]]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        with open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, self.path)


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Rows of a metrics.csv, oldest first; a metric that a row lacks is ""."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))
