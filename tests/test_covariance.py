"""A set of shards without a covariance, through the front door; and the two weights of the contrastive term in the log."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from eclipse_pl.cli import main
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.embedding import ClipSpace
from eclipse_pl.loading import load_prior
from eclipse_pl.priors import EclipsePrior
from eclipse_pl.run import read_metrics
from eclipse_pl.training import covariance
from tests.helpers.runs import write_experiment

SIZES = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8}
FULL = ["--model.prior.init_args.standardise=full", "--trainer.max_steps=2", "--trainer.val_check_interval=2"]


@pytest.mark.long
def test_an_older_set_computes_its_covariance_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    experiment = write_experiment(tmp_path)
    shards = tmp_path / "shards"
    replace(ClipSpace.load(shards / "space.safetensors"), image_covariance=None).save(shards / "space.safetensors")
    words = ["fit", "--config", str(experiment), *FULL]
    main(words)
    prior = load_prior(str(tmp_path / "runs/tiny/version_0"))
    assert isinstance(prior, EclipsePrior)
    found = covariance.image_statistics(shards, ShardSet(shards).manifest.shards, prior.space.dim)
    expected = EclipsePrior(replace(prior.space, image_covariance=found.image_covariance), **SIZES, standardise="full")
    torch.testing.assert_close(prior.network.whitening, expected.network.whitening)
    torch.testing.assert_close(prior.network.clip_mean, expected.network.clip_mean)

    monkeypatch.setattr(covariance, "image_statistics", None)  # a second run reads what the first has computed
    main([*words, "--run.version=again"])
    assert load_prior(str(tmp_path / "runs/tiny/again")).network.whitening is not None

    logged = [row for row in read_metrics(tmp_path / "runs/tiny/again/metrics.csv") if row["train/total"]]
    weights = [float(row[f"train/{name}_weight"]) for row in logged for name in ("contrastive", "relative")]
    assert weights == pytest.approx([0.2] * 2 * len(logged)), "whitened: the variance is 1"


def test_a_projection_logs_no_weight(tmp_path):
    experiment = write_experiment(tmp_path)
    main(["fit", "--config", str(experiment), "--trainer.max_steps=1", "--model.prior.init_args.contrastive_weight=0"])
    logged = read_metrics(tmp_path / "runs/tiny/version_0/metrics.csv")
    assert "train/contrastive_weight" not in logged[0]


@pytest.mark.parametrize("weight", [0.0, 0.2])
def test_images_that_are_all_equal_have_no_relative_weight(tmp_path, weight):
    experiment, path = write_experiment(tmp_path), tmp_path / "shards/space.safetensors"
    replace(ClipSpace.load(path), image_std=torch.zeros(8)).save(path)
    main(["fit", "--config", str(experiment), "--trainer.max_steps=1", f"--model.prior.init_args.contrastive_weight={weight}"])
    logged = read_metrics(tmp_path / "runs/tiny/version_0/metrics.csv")
    assert "train/relative_weight" not in logged[0] and ("train/contrastive_weight" in logged[0]) == (weight > 0)
