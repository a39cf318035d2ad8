from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eclipse_pl.compbench.scorecard import metrics_of, read_card
from eclipse_pl.data.subset_names import ALL
from eclipse_pl.files import write_atomically
from eclipse_pl.intervals import NOTHING
from eclipse_pl.launch.local import Status
from eclipse_pl.reports.comparison import Comparison
from eclipse_pl.reports.latent_comparison import over_seeds
from eclipse_pl.reports.latent_tables import distribution_tables, main_table
from eclipse_pl.reports.metrics import BY_NAME, HEADLINE, METRICS
from eclipse_pl.reports.report import Report
from eclipse_pl.reports.score_tables import score_table, summary_table
from eclipse_pl.reports.tables import Table, decimals_of, estimate_text, rows_of
from eclipse_pl.run import read_metrics
from eclipse_pl.sweeps.plan import SweepPlan, SweepRun

Line = dict[str, Any]
"""One run: {column: value}."""


class SweepResults:
    """The results of a sweep: ``sweep.csv`` with a line for each run, and the tables of `compare` for its variants."""

    def __init__(self, plan: SweepPlan, statuses: Sequence[Status]) -> None:
        self.plan = plan
        self.lines = [line_of(run, status) for run, status in zip(plan.runs, statuses, strict=True)]

    @property
    def finished(self) -> dict[Path, Line]:
        """{folder: line}"""
        lines = zip(self.plan.runs, self.lines, strict=True)
        return {run.task.path: line for run, line in lines if line["state"] == "finished"}

    def write(self) -> Path:
        """``sweep.csv`` in the sweep's folder; atomic."""
        path = self.plan.folder / "sweep.csv"
        write_atomically(path, table_of(self.lines).encode())
        return path

    def report(self) -> Report:
        """The comparison of the finished runs; what cannot be compared fairly is marked.

        Raises:
            ValueError: No run was measured, or a file of a run is damaged.
        """
        names = [parameter.name.partition(".")[0] for parameter in self.plan.file.varying]
        vary = ["decoder"] if "decoder" in names else []
        metric = (self.plan.file.metric or "").rpartition("/")[2]
        columns = dict.fromkeys([*([metric] if BY_NAME.get(metric) in METRICS else []), *HEADLINE])
        return Report.of(list(map(str, self.finished)), anyway=True, metrics=[BY_NAME[name] for name in columns], vary=vary)

    def tables(self, report: Report) -> list[Table]:
        """Means of every variant: scores, latent metrics, and the sweep's metric where it stands in neither."""
        found: list[Table] = []
        metric = self.plan.file.metric or ""
        group, *subset, name = metric.split("/")
        known = set()
        if report.scores is not None:
            summary = summary_table(report.scores)
            found += [summary] if summary else []
            found += [score_table(report.scores, scorer) for scorer in report.scores.scorers]
            known = {column.name for column in report.scores.all_columns}
        if report.latent is not None:
            found.append(main_table(report.latent, report.metrics))
            if group == "val" and BY_NAME.get(name) in METRICS and (not subset or subset[0] in report.latent.subsets):
                known.add(metric)
                found += [main_table(report.latent, report.metrics, subset[0])] if subset and subset[0] != ALL else []
        if report.distribution is not None:
            main, *_ = distribution_tables(report.distribution, report.sampled)
            found.append(main)
            known |= {f"val/{column.name}" for column in report.sampled}
        if metric not in known and (table := self.logged_table(report.comparison, metric)):
            found.insert(0, table)
        return found

    def logged_table(self, comparison: Comparison, metric: str) -> Table | None:
        """The last logged value of any other metric; None where no run logged it."""
        values = {folder: float(line[metric]) for folder, line in self.finished.items() if line.get(metric)}
        if not values:
            return None
        known = [[values[run.folder] for run in one.runs.values() if run.folder in values] for one in comparison.variants]
        estimates = [over_seeds(of_variant) if of_variant else NOTHING for of_variant in known]
        texts = [estimate_text(one, decimals_of(estimates)) for one in estimates]
        counts = [str(len(of_variant)) for of_variant in known]
        rows = rows_of(comparison, comparison.variants, [counts, texts])
        return Table(metric, ["seeds", "last value"], rows, "Mean over seeds ± half-width of its 95 % t-interval.")

    @property
    def missing_metric(self) -> str:
        """A sentence where no run logged the sweep's metric; else empty."""
        metric = self.plan.file.metric
        if not metric or not self.lines or any(line.get(metric) for line in self.lines):
            return ""
        near = difflib.get_close_matches(metric, {column for line in self.lines for column in line}, n=3)
        return f"No run logged {metric}." + (f" Near it: {', '.join(near)}." if near else "")


def line_of(run: SweepRun, status: Status) -> Line:
    """``version``, the parameters by their whole names, ``state``, ``seconds`` (of all tries), and the `last_metrics`."""
    seconds = round(status.seconds, 1)
    return {"version": run.version, **run.values, "state": status.state, "seconds": seconds, **last_metrics(run.task.path)}


def table_of(lines: Sequence[Line]) -> str:
    """CSV with a column for each name that a line has."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(dict.fromkeys(column for line in lines for column in line)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue()


def shortened(value: Any) -> Any:
    """Six digits of a number that was written with all of its digits."""
    try:
        return f"{float(value):.6g}" if isinstance(value, str) and len(value) > 8 else value
    except ValueError:
        return value


def last_metrics(folder: Path) -> dict[str, str]:
    """{metric: its last value} in a run's metrics.csv. Of a benchmark: the mean scores of its scorecard, after ``failed``, the
    number of images that they leave out."""
    if (folder / "benchmark.json").is_file() and (folder / "scorecard.json").is_file():
        card = read_card(folder / "scorecard.json")
        return {name: str(value) for name, value in {"failed": card.get("failed", ""), **metrics_of(card)}.items()}
    if not (folder / "metrics.csv").is_file():
        return {}
    rows = read_metrics(folder / "metrics.csv")
    return {name: value for row in rows for name, value in row.items() if value}
