"""Which sets of shards runs were trained on, in words: two runs are of one variant only where these are the same."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath

from eclipse_pl.reports.run_record import RunRecord

TRAINING_DATA = "training_data"
"""Stands among the settings of a variant, although it is no key of a config."""

UNKNOWN = "unknown"


def names_of_sets(runs: Iterable[RunRecord]) -> dict[str, str]:
    """{sha256 of the manifest: name} of every set that one of the runs was trained on.

    A set is named by its folder, in the last words that no other folder ends in. The same content in two folders is one set,
    and goes by the folder that comes first; two sets that one folder held are told apart by digits of the hash.
    """
    folders: dict[str, tuple[str, ...]] = {}
    for run in runs:
        for one in run.training_data:
            folders.setdefault(one["sha256"], PurePath(one["folder"]).parts)
    held = list(folders.values())
    return {
        sha256: ending(words, held) + (f" (sha256 {sha256[:8]}…)" if held.count(words) > 1 else "")
        for sha256, words in folders.items()
    }


def ending(words: tuple[str, ...], all_words: list[tuple[str, ...]]) -> str:
    others = [other for other in all_words if other != words]
    fitting = (n for n in range(1, len(words)) if all(other[-n:] != words[-n:] for other in others))
    return str(PurePath(*words[-next(fitting, len(words)) :]))


def trained_on(run: RunRecord, names: dict[str, str]) -> str:
    """``coco/shards``; both where it was resumed on others."""
    return ", then ".join(names[one["sha256"]] for one in run.training_data) or UNKNOWN
