"""ECLIPSE on 500 real CLIP pairs of MSCOCO: 400 to train, 100 to measure, ten splits, several lambdas; prints two tables.

    python experiments/coco500.py --pairs coco500_clip_vitb16.npz

The file holds arrays image_embed, text_embed (500, 512) and caption. Every run is a `fit` of coco500.yaml.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_prep.import_embeddings import main as import_embeddings
from eclipse_pl.cli import main
from eclipse_pl.intervals import standard_error, t_quantile

HERE = Path(__file__).parent
TRAINED, MEASURED = 400, 100
"""Pairs of a split."""
COLUMNS = ("cosine", "centred_cosine", "mse", "text_cosine", "norm", "R@1", "R@5", "R@10")
PRIOR = "model.prior.init_args"
RUNS: dict[str, dict[str, float | str]] = {
    "projection (lambda 0), summed squares": {"contrastive_weight": 0.0, "reduction": "sum"},
    "ECLIPSE, lambda 0.02, summed squares": {"contrastive_weight": 0.02, "reduction": "sum"},
    "ECLIPSE, lambda 0.2, summed squares": {"contrastive_weight": 0.2, "reduction": "sum"},
    "ECLIPSE, lambda 0.4, summed squares": {"contrastive_weight": 0.4, "reduction": "sum"},
    "ECLIPSE, lambda 1, summed squares": {"contrastive_weight": 1.0, "reduction": "sum"},
    "projection (lambda 0), mean of squares": {"contrastive_weight": 0.0, "reduction": "mean"},
    "ECLIPSE, lambda 0.2, mean of squares": {"contrastive_weight": 0.2, "reduction": "mean"},
}
BESIDE = {
    "mean image (baseline)": "mean_image",
    "text as image (baseline)": "text_as_image",
    "ridge regression": "ridge",
    "true image (upper bound)": "upper_bound",
}


def fit(folder: Path, shards: Path, seed: int, options: dict[str, float | str]) -> dict[str, dict[str, float]]:
    """One run; {row: {metric: value}} of its validation split."""
    flags = [f"--{PRIOR}.{name}={value}" for name, value in options.items()]
    flags += [f"--data.init_args.folder={shards}", f"--run.folder={folder / 'runs'}", f"--seed_everything={seed}"]
    with contextlib.redirect_stdout(io.StringIO()):
        main(["fit", "--config", str(HERE / "coco500.yaml"), "--config", str(HERE / "overlays/quiet.yaml"), *flags])
    newest = max((folder / "runs" / "coco500").iterdir(), key=lambda run: int(run.name.rpartition("_")[2]))
    return {row: subsets["all"] for row, subsets in json.loads((newest / "latent.json").read_text())["rows"].items()}


def table(rows: dict[str, list[dict[str, float]]]) -> str:
    """Mean over the splits, and half the width of the 95 % interval of that mean."""
    lines = ["| | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, splits in rows.items():
        cells = []
        for column in COLUMNS:
            values = [split[column] for split in splits]
            digits = 5 if column == "mse" else 3
            cells.append(f"{np.mean(values):.{digits}f} ± {half_width(values):.{digits}f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def half_width(values: Sequence[float]) -> float:
    """Half the width of the 95 % interval of a mean over random splits of the same pairs; NaN for a single split."""
    n = len(values)
    return t_quantile(n - 1) * standard_error(values, MEASURED / TRAINED) if n > 1 else float("nan")


def differences(rows: dict[str, list[dict[str, float]]]) -> dict[str, list[dict[str, float]]]:
    """Each row minus the first one, split by split."""
    first, *others = rows
    return {
        f"{name}, minus the first row": [
            {column: ours[column] - theirs[column] for column in COLUMNS}
            for ours, theirs in zip(rows[name], rows[first], strict=True)
        ]
        for name in others
    }


def run(pairs: str, splits: int) -> str:
    rows: dict[str, list[dict[str, float]]] = {}
    for library in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(library).setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for seed in range(splits):
            shards = folder / f"shards_{seed}"
            split = f"--val {MEASURED} --test 0 --seed {seed}"
            command = f"--arrays {pairs} --out {shards} {split} --name ViT-B-16/openai --encoder openai"
            import_embeddings(command.split())
            for name, options in RUNS.items():
                result = fit(folder, shards, seed, options)
                rows.setdefault(name, []).append(result["this prior"])
                shown = ", ".join(f"{metric} {result['this prior'][metric]:.3f}" for metric in ("cosine", "R@1"))
                print(f"split {seed + 1}/{splits}: {name}: {shown}", file=sys.stderr)
            for name, row in BESIDE.items():
                rows.setdefault(name, []).append(result[row])
    return f"{table(rows)}\n\n{table(differences(rows))}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", required=True, help="the .npz with image_embed, text_embed and caption")
    parser.add_argument("--splits", type=int, default=10)
    arguments = parser.parse_args()
    print(run(arguments.pairs, arguments.splits))
