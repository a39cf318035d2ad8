"""python -m eclipse_pl import: a released prior as a run, to be measured and compared like one's own."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import yaml

from eclipse_pl.cli import main as cli
from eclipse_pl.command_line import call
from eclipse_pl.priors.checkpoint import find_checkpoint
from eclipse_pl.priors.released import read_released


def import_prior(weights: str, data: str, experiment: str, folder: str = "runs", wandb: str = "disabled") -> None:
    """Make a run of a released prior: its config, and a checkpoint of its weights, measured on the validation split.

    Args:
        weights: Folder or hub id of the prior, or of a pipeline that holds it.
        data: Set of shards encoded by the prior's CLIP.
        experiment: Name of the run's experiment.
        folder: Where all runs lie.
        wandb: See Run.
    """
    if find_checkpoint(weights) is not None:
        raise ValueError(
            f"{weights} is a run already: `compare`, `sample` and `benchmark` take it as it is, and a fit takes it as weights."
        )
    released = read_released(weights)
    config: dict[str, Any] = {
        "run": {"experiment": experiment, "folder": folder, "wandb": wandb},
        "trainer": {"accelerator": "auto", "devices": 1},
        "data": {"class_path": "eclipse_pl.data.datamodule.EmbeddingDataModule", "init_args": {"folder": data}},
        "model": {
            "prior": {**released.part, "init_args": {**released.init_args, "weights": weights}},
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 5.0e-5}},
        },
    }
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "config.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        done = cli(["validate", "--config", str(path)])
    run = Path(str(done.trainer.log_dir))
    done.trainer.save_checkpoint(run / "checkpoints" / "last.ckpt", weights_only=True)
    print(
        f"{run}: use it with `python -m eclipse_pl compare {run} ...`, `sample --prior {run}`, or in a fit with weights: {run}"
    )


def main(args: list[str] | None = None) -> None:
    call(import_prior, args, "eclipse_pl import")
