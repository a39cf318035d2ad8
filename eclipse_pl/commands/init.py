"""python -m eclipse_pl init: a folder with a copy of the experiments, to work in without a checkout."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path

import eclipse_pl
from eclipse_pl.command_line import call
from eclipse_pl.files import copy_folder, require_outside

EXPERIMENTS = Path(eclipse_pl.__file__).parent / "experiments"
"""In a wheel a folder; in a checkout a link to ``experiments``."""
FIRST = "experiments/quickstart.yaml"


def init(folder: str) -> None:
    """Write a copy of the experiments, with their parts, overlays and sweeps, into FOLDER/experiments.

    Args:
        folder: A new folder, or an empty one.
    """
    target = Path(folder).expanduser()
    if target.exists() and not target.is_dir():
        raise ValueError(f"{folder} is a file. Choose a new folder, such as `python -m eclipse_pl init eclipse_work`.")
    if target.is_dir() and (there := sorted(path.name for path in target.iterdir())):
        raise ValueError(
            f"{folder} is not empty: it holds {', '.join(there[:3])}{', ...' if len(there) > 3 else ''}. Choose a new folder, "
            f"such as `python -m eclipse_pl init {shlex.quote(str(Path(folder) / 'eclipse_work'))}`."
        )
    require_outside(target, EXPERIMENTS.resolve())
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".init.", dir=target) as temporary:
        copy = Path(temporary) / "experiments"
        copy_folder(EXPERIMENTS, copy, lambda path: path.name != "__pycache__")
        copy.rename(target / "experiments")
    print(f"{target / 'experiments'}: the experiments, their parts, overlays and sweeps, and README.md about them. Next:\n")
    if target.resolve() != Path.cwd():
        print(f"  cd {shlex.quote(str(target))}")
    print(f"  python -m eclipse_pl fit --config {FIRST}")


def main(args: list[str] | None = None) -> None:
    call(init, args, "eclipse_pl init", as_positional=True)
