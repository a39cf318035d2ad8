"""The true distribution in the upper bound's row, through the front door, on a small world."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from eclipse_pl.__main__ import main as command
from eclipse_pl.callbacks.latent_rows import read_pairs
from eclipse_pl.cli import main
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.latent.distribution import measure_samples
from eclipse_pl.world import redrawn_images
from tests.helpers.runs import write_experiment

WORLD = "eclipse_pl.world.datamodule.WorldDataModule"


def world_experiment(folder: Path) -> Path:
    sizes = {"train_pairs": 24, "val_pairs": 12, "test_pairs": 12, "detail": 0.5}
    data = {"folder": str(folder / "world"), "batch_size": 8, "workers": 0, **sizes}
    return write_experiment(
        folder, trainer__max_steps=2, trainer__val_check_interval=2, data={"class_path": WORLD, "init_args": data}
    )


@pytest.mark.long
def test_the_upper_bound_has_the_true_spread(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    experiment = world_experiment(tmp_path)
    words = ["fit", "--config", str(experiment), "--latent.samples=2", "--latent.redraws=4"]
    main(words)
    report = json.loads((tmp_path / "runs/tiny/version_0/latent.json").read_text())
    distribution = report["distribution"]
    assert (distribution["samples"], distribution["redraws"]) == (2, 4)
    truth, mean = (distribution["rows"][row]["all"] for row in ("upper_bound", "mean_image"))
    assert truth["spread"][0] > 0.05 and mean["spread"][0] == pytest.approx(0, abs=1e-6)
    assert 0 < truth["energy_score"][0] < mean["energy_score"][0]
    assert truth["mean_cosine"][0] < truth["best_cosine"][0] < 1, "the images are not those of the pairs"
    assert truth["frechet"][0] > 0
    (kept,) = (tmp_path / "cache").rglob("redrawn-*.npy")
    drawn, index = torch.from_numpy(np.load(kept)), np.load(tmp_path / "runs/tiny/version_0/latent_pairs.npz")["index"]
    images = read_pairs(ShardSet(tmp_path / "world"), torch.from_numpy(index)).image_embed
    of_all, of_two = (measure_samples(samples, images) for samples in (drawn, drawn[:, :2]))
    assert truth["spread"][0] == pytest.approx(of_all["spread"].mean().item(), rel=1e-4)
    assert truth["best_cosine"][0] == pytest.approx(of_two["best_cosine"].mean().item(), rel=1e-5), "of as many as a prior's"
    assert of_all["best_cosine"].mean() > of_two["best_cosine"].mean() + 1e-3
    bound = report["rows"]["upper_bound"]["all"]
    assert (bound["cosine"], bound["mse"]) == (pytest.approx(1), pytest.approx(0)), "the other table has the true image"
    assert "the upper bound's are 4 images drawn anew for each" in " ".join(capsys.readouterr().out.split())

    monkeypatch.setattr(redrawn_images, "encode", None)  # a second run reads what the first has made
    main([*words, "--run.version=again"])
    again = json.loads((tmp_path / "runs/tiny/again/latent.json").read_text())["distribution"]["rows"]["upper_bound"]
    assert again == distribution["rows"]["upper_bound"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--latent.samples=8", "--latent.redraws=4"], "latent.redraws is 4 with latent.samples 8; it must be at least"),
        (["--latent.redraws=4"], "latent.redraws is 4 with latent.samples 0"),
        (["--latent.samples=2", "--latent.redraws=4"], "only the world can draw images anew for a caption"),
    ],
)
def test_redraws_need_samples_and_the_world(tmp_path, capfd, options, said):
    assert command(["fit", "--config", str(write_experiment(tmp_path)), *options]) == 2
    error = capfd.readouterr().err
    assert said in error and "Traceback" not in error
