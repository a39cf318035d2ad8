"""The folder of a benchmark belongs to one benchmark: what its images depend on is stated in ``benchmark.json``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from eclipse_pl.compbench.scoring import Scoring, finished_blocks, version_of
from eclipse_pl.dotted_keys import flat
from eclipse_pl.files import json_bytes, write_atomically

STATED = "benchmark.json"
LATER = ("prior_options", "encoder_precision")
"""What folders of an earlier version do not state of a text-to-image model. It is compared where it is stated."""


def claim(folder: Path, protocol: dict[str, Any]) -> str | None:
    """Reserve the folder for this benchmark, or return why that is not possible."""
    path = folder / STATED
    if not path.is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / ".benchmark.lock"):
                if not path.is_file():  # tasks may begin at the same moment
                    write_atomically(path, json_bytes(protocol))
        except OSError as error:
            return f"Cannot write to {folder} ({error.strerror}). Choose another folder."
    if differences := differing(folder, protocol):
        groups = dict.fromkeys(key.partition(".")[0] for key in differences)
        words = (f"{key} was {before} and is now {now}" for key, (before, now) in differences.items())
        return (
            f"{folder} holds another benchmark: its {', '.join(groups)} differ ({'; '.join(words)}). Results are never mixed: "
            "choose another folder."
        )
    return None


def make_room(folder: Path, protocol: dict[str, Any], scorers: Sequence[Scoring]) -> None:
    """Remove another benchmark's files, and of the same benchmark the scores by other versions of the scorers."""
    if not (folder / STATED).is_file():
        return
    if differing(folder, protocol):
        shutil.rmtree(folder)
        return
    for scoring in scorers:
        for path in finished_blocks(folder, scoring):
            if version_of(path) != scoring.scorer.version:
                path.unlink()


def differing(folder: Path, protocol: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The dotted keys of what the benchmark of a folder stated otherwise, with its value and that of ``protocol``."""
    before = json.loads((folder / STATED).read_text(encoding="utf-8"))
    now = json.loads(json_bytes(protocol))
    for key in LATER:
        if key not in before["text_to_image"]:
            now["text_to_image"].pop(key, None)
    before, now = flat(before), flat(now)
    keys = dict.fromkeys([*now, *before])
    return {key: (before.get(key), now.get(key)) for key in keys if before.get(key) != now.get(key)}
