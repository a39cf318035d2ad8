"""Which runs may stand in one table: those that were measured on the same pairs, in the same space, by the same metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from eclipse_pl.reports.run_record import RunRecord


@dataclass(frozen=True)
class Problem:
    """Why a run cannot be compared fairly. ``run`` is the one that is marked where the comparison is made anyway."""

    run: RunRecord
    sentence: str


def space_of(run: RunRecord) -> str:
    space = run.fact("shards", "space")
    return "unknown" if not space else f"{space['name']} ({space['encoder']}, {space['dim']} wide)"


def split_of(run: RunRecord) -> str:
    return f"{run.fact('pairs')} pairs of {run.fact('stage')}, {short(run.fact('pairs_sha256'))}"


def shards_of(run: RunRecord) -> str:
    return f"{run.fact('shards', 'folder')}, {short(run.fact('shards', 'sha256'))}"


def version_of(run: RunRecord) -> str:
    return f"version {run.fact('metrics_version')}"


CHECKS: tuple[tuple[str, Callable[[RunRecord], Any], Callable[[RunRecord], str]], ...] = (
    ("other metrics", lambda run: run.fact("metrics_version"), version_of),
    ("another CLIP space", lambda run: run.fact("shards", "space"), space_of),
    ("other shards", lambda run: run.fact("shards", "sha256"), shards_of),
    ("other pairs", lambda run: (run.fact("stage"), run.fact("pairs_sha256")), split_of),
)
"""What must be equal: its name, its value, and how it is told."""


def problems_of(runs: list[RunRecord]) -> list[Problem]:
    """One for each run that is unfinished, does not say what it was measured on, or differs from the first sound run."""
    found = []
    sound: RunRecord | None = None
    for run in runs:
        if reason := run.unfinished:
            found.append(Problem(run, f"{run} {reason}. {continue_with(run)}"))
        elif not run.fact("shards", "sha256"):
            found.append(
                Problem(
                    run,
                    f"{run} does not say on which shards, split and version of metrics it was measured. {measure_again(run)}",
                )
            )
        elif sound is None:
            sound = run
        else:
            found += [Problem(run, sentence) for sentence in differences(sound, run)]
    return found


def differences(first: RunRecord, other: RunRecord) -> list[str]:
    """A sentence on the first thing that makes two runs incomparable: what follows from it need not be said."""
    for what, value, told in CHECKS:
        if value(first) != value(other):
            remedy = f" {measure_again(other)}" if told is version_of else ""
            return [
                f"{first} and {other} cannot be compared fairly, because they were measured with {what}: "
                f"{told(first)} against {told(other)}.{remedy}"
            ]
    return []


def twice(first: RunRecord, second: RunRecord) -> Problem:
    return Problem(
        second,
        f"{first} and {second} are the same config with the same seeds, which is one run and not two seeds. Name one of them.",
    )


def continue_with(run: RunRecord) -> str:
    return f"Finish it: `python -m eclipse_pl fit --config {run.folder / 'config.yaml'} --ckpt_path {run.folder}`."


def measure_again(run: RunRecord) -> str:
    return (
        f"Measure it again: `python -m eclipse_pl validate --config {run.training / 'config.yaml'} --ckpt_path "
        f"{run.training}`, and compare that run."
    )


def short(digest: str | None) -> str:
    return "unknown" if digest is None else f"sha256 {digest[:8]}…"
