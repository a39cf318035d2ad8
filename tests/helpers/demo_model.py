"""A small demo of the world: two priors with random weights, the world's own encoder and decoder, a few real images."""

from __future__ import annotations

import socket
from pathlib import Path

import torch

from eclipse_pl.demo.command import load_model
from eclipse_pl.demo.model import DemoModel
from eclipse_pl.priors.eclipse import EclipsePrior
from eclipse_pl.priors.flow import FlowPrior
from eclipse_pl.priors.prior import Prior
from eclipse_pl.world.datamodule import WorldDataModule
from eclipse_pl.world.decoder import WorldDecoder
from tests.helpers.saved_runs import make_run, write_config

SIZES = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8}
KINDS: dict[str, tuple[type[Prior], dict[str, int | float]]] = {
    "one_pass": (EclipsePrior, {}),
    "flow": (FlowPrior, {"steps": 3, "guidance_scale": 2.0}),
}


def write_runs(folder: Path) -> list[str]:
    """A run of each kind, on a small world of its own."""
    data = WorldDataModule(str(folder / "shards"), train_pairs=64, val_pairs=16, test_pairs=24, batch_size=16, workers=0)
    data.prepare_data()
    runs = []
    for name, (kind, options) in KINDS.items():
        run = make_run(folder / f"seed_everything=0,prior={name}", kind, data.space, **SIZES, **options)
        rename_data(run, folder / "shards", kind, options)
        runs.append(str(run))
    return runs


def rename_data(run: Path, shards: Path, kind: type[Prior], options: dict[str, int | float]) -> None:
    """Let the run's config name its shards."""
    write_config(run, {"class_path": f"{kind.__module__}.{kind.__name__}", "init_args": {**SIZES, **options}})
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(str(run / "shards"), str(shards)))


def small_demo(folder: Path, steps: int = 1) -> DemoModel:
    """The demo of both runs; the decoder takes few steps."""
    torch.manual_seed(0)
    return load_model(write_runs(folder), WorldDecoder(steps=steps, batch_size=16, device="cpu"), real_images=20)


def free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])
