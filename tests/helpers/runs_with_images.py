"""Runs of the world with a tiny decoder that knows nothing yet, for everything that is generated while a prior trains."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from eclipse_pl.world.encoder import WorldEncoder
from tests.helpers.runs import write_experiment

PRIOR = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8}


PROTOCOL = {
    "class_path": "eclipse_pl.compbench.compbench.CompBench",
    "init_args": {
        "block": 4,
        "prompts": {"class_path": "eclipse_pl.world.prompt_source.WorldPrompts", "init_args": {"per_category": 1}},
        "scorers": [{"scorer": {"class_path": "tests.helpers.scorers_for_images.MeanColour"}}],
    },
}


def experiment(folder: Path, name: str, **changes: Any) -> Path:
    """``folder`` holds the decoder already; the world is built there once."""
    (folder / name).mkdir()
    world = {"folder": str(folder / "world"), "train_pairs": 32, "val_pairs": 8, "test_pairs": 8, "batch_size": 8}
    decoder = {
        "class_path": "eclipse_pl.decoders.kandinsky.KandinskyDecoder",
        "init_args": {"model": str(folder / "decoder"), "space": "world", "steps": 2, "batch_size": 4, "device": "cpu"},
    }
    options: dict[str, Any] = {
        "data": {"class_path": "eclipse_pl.world.datamodule.WorldDataModule", "init_args": {**world, "workers": 0}},
        "model__prior__init_args": PRIOR,
        "trainer__max_steps": 6,
        "trainer__val_check_interval": 2,
        "checkpoint__every_n_steps": 2,
        "decoder": decoder,
        "samples": {"every_n_steps": 4, "prompts": ["a red star", "two blue squares"], "seeds": [3, 4]},
        "benchmark": {"every_n_validations": 1, "protocol": copy.deepcopy(PROTOCOL)},
    }
    return write_experiment(folder / name, **{**options, **changes})


class OtherEncoder(WorldEncoder):
    """As wide as the world's and called like it, but another CLIP."""

    def __init__(self) -> None:
        super().__init__(device="cpu")
        self.tag = "open_clip:local-dir:sha256-other"
