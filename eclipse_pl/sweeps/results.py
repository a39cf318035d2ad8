from __future__ import annotations

import csv
import difflib
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from eclipse_pl.compbench.scorecard import metrics_of, read_card
from eclipse_pl.files import write_atomically
from eclipse_pl.intervals import mean_interval
from eclipse_pl.launch.local import Status
from eclipse_pl.run import read_metrics
from eclipse_pl.sweeps.plan import SweepPlan
from eclipse_pl.sweeps.sweep_file import short_names, text, without_seeds

Rows = list[dict[str, Any]]


class SweepResults:
    """What the runs of a sweep came to: ``sweep.csv`` with a row for each, and a table with a row for each variant.

    A row has ``version``, the parameters by their whole names, ``state``, ``seconds`` (of all tries), and the last value of
    every metric in the run's metrics.csv.
    """

    def __init__(self, plan: SweepPlan, statuses: Sequence[Status]) -> None:
        self.plan = plan
        self.rows: Rows = [
            {
                "version": run.version,
                **run.values,
                "state": status.state,
                "seconds": round(status.seconds, 1),
                **last_metrics(run.task.path),
            }
            for run, status in zip(plan.runs, statuses, strict=True)
        ]

    def write(self) -> Path:
        """``sweep.csv`` in the sweep's folder; atomic."""
        path = self.plan.folder / "sweep.csv"
        columns = list(dict.fromkeys(column for row in self.rows for column in row))
        file = io.StringIO(newline="")
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomically(path, file.getvalue().encode())
        return path

    def print_table(self, console: Console) -> None:
        """Variants (parameters without the seeds) with the metric's mean over seeds and its 95 % t-interval."""
        metric = self.plan.file.metric
        console.print(f"{self.plan.file.name}: mean of the n finished runs and its 95 % interval", markup=False)
        table = Table(box=None)
        short = short_names([parameter.name for parameter in self.plan.file.varying])
        variant = [parameter.name for parameter in self.plan.file.varying if not parameter.is_seed]
        for column in (*(short[name] for name in variant), "n", *([metric] if metric else [])):
            table.add_column(column, justify="right")
        for rows in self._variants(variant).values():
            done = [row for row in rows if row["state"] == "finished"]
            measured = [float(row[metric]) for row in done if row.get(metric)] if metric else []
            cells = [with_interval(measured)] if metric else []
            values = (text(without_seeds(rows[0][name])) for name in variant)
            table.add_row(*values, str(len(measured if metric else done)), *cells)
        console.print(table)
        if metric and self.rows and not any(row.get(metric) for row in self.rows):
            logged = {column for row in self.rows for column in row}
            near = difflib.get_close_matches(metric, logged, n=3)
            console.print(f"No run logged {metric}." + (f" Near it: {', '.join(near)}." if near else ""), markup=False)

    def _variants(self, variant: list[str]) -> dict[tuple[str, ...], Rows]:
        groups: dict[tuple[str, ...], Rows] = {}
        for row in self.rows:
            groups.setdefault(tuple(str(without_seeds(row[name])) for name in variant), []).append(row)
        return groups


def last_metrics(folder: Path) -> dict[str, str]:
    """{metric: its last value} of a run, or of a benchmark: the mean scores of its scorecard."""
    if (folder / "benchmark.json").is_file() and (folder / "scorecard.json").is_file():
        return {name: str(value) for name, value in metrics_of(read_card(folder / "scorecard.json")).items()}
    if not (folder / "metrics.csv").is_file():
        return {}
    rows = read_metrics(folder / "metrics.csv")
    return {name: value for row in rows for name, value in row.items() if value}


def with_interval(values: list[float]) -> str:
    """With as many decimals as tell two digits of the half-width, and at least four."""
    if not values:
        return "-"
    estimate = mean_interval(values)
    half = (estimate.high - estimate.low) / 2
    size = half if estimate.has_interval else abs(estimate.mean)
    decimals = max(4, 1 - math.floor(math.log10(size))) if size > 0 else 4
    return f"{estimate.mean:.{decimals}f}" + (f" ± {half:.{decimals}f}" if estimate.has_interval else "")
