"""Which runs are meant by what was typed: folders of runs and of benchmarks, folders above them, globs."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from eclipse_pl.reports.run_record import RunRecord


def find_runs(places: list[str]) -> tuple[list[tuple[int, RunRecord]], list[str]]:
    """Every run once, with the number of the place that named it; and remarks on what was left out.

    Where a place holds training runs, runs of ``validate`` and ``test`` below it are left out, folders of ``benchmark`` not.

    Raises:
        ValueError: a place does not exist, cannot be read or holds no run.
    """
    found: dict[Path, tuple[int, RunRecord]] = {}
    remarks = []
    for number, place in enumerate(places):
        try:
            runs = [RunRecord.read(one) if is_run(one) else RunRecord.of_benchmark(one) for one in folders_of(place)]
        except OSError as error:
            raise ValueError(f"Cannot read {error.filename or place} ({error.strerror}).") from error
        measures = [run for run in runs if run.measures_only]
        if measures and any(not (run.measures_only or run.is_benchmark) for run in runs):
            remarks.append(
                f"{len(measures)} runs of validate or test in {place} are left out beside training runs; name them to compare "
                "them."
            )
            runs = [run for run in runs if run not in measures]
        for run in runs:
            found.setdefault(run.folder.resolve(), (number, run))
    return list(found.values()), remarks


def folders_of(place: str) -> list[Path]:
    """Folders of runs at, below, or matched by a place."""
    path = Path(place)
    if path.exists():
        if not path.is_dir():
            raise ValueError(
                f"{place} is no folder. Name folders of runs, a folder above them such as runs/quickstart, or a glob in "
                "quotes."
            )
        folders = list(walk(path))
        if not folders:
            raise ValueError(
                f"{place} holds no run: neither it nor any folder below it has a config.yaml or a scorecard.json."
            )
        return folders
    if has_magic(place):
        matches = sorted((Path(match) for match in glob(place, recursive=True)), key=natural)
        folders = [folder for match in matches if match.is_dir() for folder in walk(match)]
        if not folders:
            raise ValueError(
                f"{place} matches no run ({len(matches)} files or folders match, none with a config.yaml or a scorecard.json)."
            )
        return folders
    near = path.parent.iterdir() if path.parent.is_dir() else []
    names = difflib.get_close_matches(place, [str(child) for child in near if child.is_dir()], n=3, cutoff=0.3)
    raise ValueError(f"There is no {place}." + (f" Near it: {', '.join(names)}." if names else ""))


def walk(folder: Path) -> Iterator[Path]:
    """Folders of runs and benchmarks at and below a folder, in natural order; none of them is searched for others."""
    if is_run(folder) or any((folder / name).is_file() for name in ("benchmark.json", "scorecard.json")):
        yield folder
        return
    for child in sorted((child for child in folder.iterdir() if child.is_dir()), key=natural):
        yield from walk(child)


def is_run(folder: Path) -> bool:
    return (folder / "config.yaml").is_file()


def natural(path: Path) -> list[Any]:
    """``version_10`` after ``version_9``."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", str(path)) if part]
