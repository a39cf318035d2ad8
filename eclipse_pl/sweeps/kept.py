"""The finished runs of a sweep in a file of their own: ``sweep --csv``."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from eclipse_pl.files import only_process, write_atomically
from eclipse_pl.launch.local import Status
from eclipse_pl.launch.task import Record
from eclipse_pl.sweeps.config_hash import common_part
from eclipse_pl.sweeps.plan import SweepPlan, SweepRun
from eclipse_pl.sweeps.results import Line, line_of, shortened, table_of

COMMIT, HASH = "commit", "config_hash"
ABOUT = (COMMIT, HASH)
"""Columns that say how a run was made. Files of older releases lack them."""
PATIENCE = 60.0
"""Seconds to wait for another process that writes the file."""


class KeptRuns:
    """Finished runs in a file outside the sweep's folder. Another machine, or a later call, resumes the sweep from this file.

    A line is that of ``sweep.csv`` with the ``commit`` of the code that ran and the ``config_hash`` of the run. Above the
    lines stand the last command and a count.

    Args:
        path: The file. Finished runs that it has already are kept; its other lines are not.
        plan: The runs of the sweep, hashed. Those that the file has and the sweep's folder has not are taken out of it.
        command: What is run now.

    Raises:
        ValueError: The file was not written by this class or has runs of another sweep.
    """

    def __init__(self, path: Path, plan: SweepPlan, command: str) -> None:
        self.path, self.plan, self.command = path, plan, command
        self.order = {run.version: place for place, run in enumerate(plan.runs)}
        self.lines = self._read()
        self.looked_at: set[str] = set()
        """Versions that were finished when `add` was called before."""
        self._require_same_experiment()
        self.elsewhere = [run for run in plan.runs if self._has(run) and not run.task.is_finished]
        plan.runs = [run for run in plan.runs if run not in self.elsewhere]

    def require_writable(self) -> None:
        """Make the file's folder, so that no run is for nothing.

        Raises:
            ValueError: The file cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._cannot_write(error.strerror) from error
        if self.path.is_dir() or not os.access(self.path.parent, os.W_OK):
            raise self._cannot_write("it is a folder" if self.path.is_dir() else "permission denied")

    def _cannot_write(self, reason: str | None) -> ValueError:
        return ValueError(f"Cannot write {self.path} ({reason}). Choose another file with --csv.")

    def _read(self) -> dict[str, Line]:
        """{version: line}"""
        if not self.path.is_file():
            return {}
        try:
            text = self.path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            text = []
        lines = list(csv.DictReader(line for line in text if not line.startswith("#")))
        columns = ["version", *(parameter.name for parameter in self.plan.file.parameters), "state"]
        if not lines or any(list(line)[: len(columns)] != columns or None in line.values() for line in lines):
            raise ValueError(
                f"{self.path} has no runs of this sweep, whose columns begin with {', '.join(columns)}. It is left as it is. "
                "Choose another file with --csv."
            )
        # files of older releases name one commit above all lines
        said = next((line.split()[2].rstrip(",") for line in text if line.startswith("# commit ")), "unknown")
        finished = [line for line in lines if line["state"] == "finished"]
        return {line["version"]: {**line, COMMIT: line.get(COMMIT) or said} for line in finished}

    def _require_same_experiment(self) -> None:
        """Check that all runs of the file are of this experiment, as far as they say of which they are.

        Raises:
            ValueError: A run was made with another config.
        """
        hashes = {run.version: run.config_hash for run in self.plan.runs}
        common = {common_part(each) for each in hashes.values()}
        for version, line in self.lines.items():
            said = line.get(HASH)
            if said and (common_part(said) not in common or hashes.get(version, said) != said):
                raise ValueError(
                    f"{self.path} has the run {version}, made with another config ({HASH} {said}; this sweep has "
                    f"{hashes.get(version, ', '.join(sorted(common)))}). Results of both would be mixed. Choose another file "
                    f"with --csv, or, if the difference changes no result, empty the column {HASH} of that file."
                )

    def _has(self, run: SweepRun) -> bool:
        """Whether the file has this run.

        Raises:
            ValueError: The file's run of this name has other parameters.
        """
        line = self.lines.get(run.version)
        if line is None:
            return False
        for name, value in run.values.items():
            if line[name] not in (str(value), shortened(str(value))):
                raise ValueError(
                    f"{self.path} has the run {run.version} with {name}={line[name]}, and this sweep gives it {value}. Choose "
                    "another file with --csv."
                )
        return True

    def add(self, statuses: Sequence[Status]) -> None:
        """Write the runs that have finished since the last call and that the file has not; atomic.

        Args:
            statuses: Of the plan's runs, in their order.
        """
        pairs = zip(self.plan.runs, statuses, strict=True)
        done = [(run, status) for run, status in pairs if status.state == "finished" and run.version not in self.looked_at]
        if not done:
            return
        busy = f"Another process holds {self.path}.lock. Wait for it, or choose another file with --csv."
        with only_process(self.path.parent, f"{self.path.name}.lock", busy, PATIENCE):
            self.lines = self._read()  # another process may have written it
            self._require_same_experiment()
            new = [self._line(*pair) for pair in done]
            if changed := {line["version"]: line for line in new if not same(line, self.lines.get(line["version"], {}))}:
                self._write({**self.lines, **changed})
        self.looked_at |= {line["version"] for line in new}

    def _line(self, run: SweepRun, status: Status) -> Line:
        """The line of a run that has finished. A run of an older release has no commit but that of its line in the file."""
        record, kept = Record.read(run.task.path), self.lines.get(run.version, {})
        commit = kept.get(COMMIT, "unknown") if record is None or record.commit == "unknown" else record.commit
        line = {name: shortened(value) for name, value in line_of(run, status).items()}
        return {**line, COMMIT: commit, HASH: run.config_hash}

    def _write(self, found: dict[str, Line]) -> None:
        lines = sorted(found.values(), key=lambda line: self.order.get(line["version"], len(self.order)))
        commits = ", ".join(dict.fromkeys(line[COMMIT] for line in lines))
        finished = sum(version in self.order for version in found)
        head = f"# {self.command}\n# commit {commits}, {finished} of {len(self.order)} runs finished\n"
        try:
            write_atomically(self.path, (head + table_of(lines)).encode())
        except OSError as error:
            raise self._cannot_write(error.strerror) from error
        self.lines = found


def same(new: Line, old: Line) -> bool:
    """Whether two lines are equal, apart from empty values and how the run was made."""

    def told(line: Line) -> dict[str, str]:
        return {name: str(value) for name, value in line.items() if value != "" and name not in ABOUT}

    return told(new) == told(old)
