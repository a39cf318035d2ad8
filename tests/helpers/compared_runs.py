"""Real small runs to compare, and copies of them with something changed."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from eclipse_pl.__main__ import main as command
from eclipse_pl.cli import main
from tests.helpers.runs import write_experiment

SEEDS = (0, 1, 2)
WEIGHTS = (0.0, 1.0)


def make_runs(folder: Path, *more: str, seeds: Sequence[int] = SEEDS) -> Path:
    """Two variants of these seeds, each below ``runs/tiny``: ``weight_0.0_seed_0`` and so on. ``more`` are words of `fit`."""
    experiment = write_experiment(folder, trainer__max_steps=4, trainer__val_check_interval=2)
    for weight in WEIGHTS:
        for seed in seeds:
            options = {
                "run.version": f"weight_{weight}_seed_{seed}",
                "seed_everything": seed,
                "data.init_args.seed": seed,
                "model.prior.init_args.contrastive_weight": weight,
            }
            main(["fit", "--config", str(experiment), *(f"--{name}={value}" for name, value in options.items()), *more])
    return folder / "runs" / "tiny"


def copy(runs: Path, folder: Path, *names: str) -> Path:
    """The named runs, or all of them, in a folder of their own."""
    for name in names or sorted(path.name for path in runs.iterdir()):
        shutil.copytree(runs / name, folder / name)
    return folder


def edit_report(run: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    path = run / "latent.json"
    report = json.loads(path.read_text())
    edit(report)
    path.write_text(json.dumps(report))


def edit_config(run: Path, **changes: Any) -> None:
    """``changes`` are dotted keys with ``__`` for the dot."""
    path = run / "config.yaml"
    config = yaml.safe_load(path.read_text())
    for key, value in changes.items():
        *parents, last = key.split("__")
        node = config
        for parent in parents:
            node = node[parent]
        node[last] = value
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def compare(*args: object) -> None:
    assert command(["compare", *map(str, args)]) == 0


def refused(capfd, *args: object) -> str:
    assert command(["compare", *map(str, args)]) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert not Path("compare/page.html").exists()
    return lines[0]


def numbers(path: str = "numbers.csv") -> dict[tuple[str, str, str], dict[str, str]]:
    with open(path, newline="") as file:
        return {(row["variant"], row["subset"], row["metric"]): row for row in csv.DictReader(file)}


def flowing(capsys) -> str:
    """What was printed, as one line."""
    return " ".join(capsys.readouterr().out.split())
