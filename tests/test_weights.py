"""What a prior begins with: the weights of a run, through the front door."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from eclipse_pl.__main__ import main as command
from eclipse_pl.loading import find_encoder, load_prior
from eclipse_pl.priors.checkpoint import read_checkpoint
from eclipse_pl.world.encoder import WorldEncoder
from tests.helpers.runs import metrics, write_experiment
from tests.helpers.shard_sets import make_shard_set, make_space
from tests.test_network import captions


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    assert command(["fit", "--config", str(write_experiment(folder, trainer__val_check_interval=5))]) == 0
    return folder / "runs" / "tiny" / "version_0"


def state(run: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"]
    return weights


@pytest.mark.long
@pytest.mark.parametrize("source", ["", "checkpoints/last.ckpt"], ids=["run", "checkpoint"])
def test_a_fit_begins_with_the_weights_of_a_run(run: Path, tmp_path: Path, source: str) -> None:
    """A learning rate of 0 shows what it began with."""
    experiment = write_experiment(
        tmp_path,
        model__prior__init_args__weights=str(run / source),
        model__optimizer__init_args={"lr": 0.0, "weight_decay": 0.0},
        trainer__max_steps=2,
        trainer__val_check_interval=2,
    )
    assert command(["fit", "--config", str(experiment)]) == 0
    tuned = tmp_path / "runs" / "tiny" / "version_0"
    assert all(torch.equal(value, state(run)[key]) for key, value in state(tuned).items())
    first, last = (values["val/cosine"] for values in (metrics(tuned)[1], metrics(run)[9]))
    assert first == pytest.approx(last, abs=1e-5), "it goes on where the run stopped"


@pytest.mark.long
def test_a_fine_tuned_run_needs_its_origin_no_more(run: Path, tmp_path: Path) -> None:
    experiment = write_experiment(tmp_path, model__prior__init_args__weights=str(run), trainer__max_steps=2)
    assert command(["fit", "--config", str(experiment)]) == 0
    tuned = tmp_path / "runs" / "tiny" / "version_0"
    config = (tuned / "config.yaml").read_text()
    assert str(run) in config, "what it began with is written down"
    (tuned / "config.yaml").write_text(config.replace(str(run), str(tmp_path / "gone")))
    text = captions([4, 7], 8, width=6)
    sampled = load_prior(str(tuned)).sample(text, torch.Generator().manual_seed(0))
    assert sampled.isfinite().all()


def test_a_run_is_loaded_without_its_shards(run: Path) -> None:
    shards = run.parents[2] / "shards"
    assert str(shards) in (run / "config.yaml").read_text()
    away = shards.rename(shards.with_name("away"))
    try:
        prior = load_prior(str(run))
    finally:
        away.rename(shards)
    assert not prior.training and prior.space.name == "tiny"
    weights = {key.removeprefix("prior."): value for key, value in state(run).items()}
    assert all(torch.equal(value, weights[key]) for key, value in prior.state_dict().items())


def refused(capfd: pytest.CaptureFixture[str], *args: str) -> str:
    assert command(list(args)) == 2
    return capfd.readouterr().err


@pytest.mark.long
def test_weights_that_do_not_fit(run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    experiment = write_experiment(tmp_path, model__prior__init_args__weights=str(run))
    fit = ["fit", "--config", str(experiment)]
    said = refused(capfd, *fit, "--model.prior.init_args.num_layers=3")
    assert "another architecture" in said and "transformer_blocks.2" in said
    said = refused(capfd, *fit, "--model.prior.init_args.standardise=diagonal")
    assert "predict raw embeddings: set the prior's standardise to none" in said
    said = refused(capfd, *fit, f"--model.prior.init_args.weights={run.parent / 'version_7'}")
    assert "Near it: " in said and "version_0" in said
    (tmp_path / "other").mkdir()
    space = make_space(name="other", dim=8, width=6)
    make_shard_set(tmp_path / "other" / "shards", splits={"train": 64, "val": 16, "test": 16}, space=space)
    experiment = write_experiment(tmp_path / "other", model__prior__init_args__weights=str(run))
    said = refused(capfd, "fit", "--config", str(experiment))
    assert "different CLIP spaces" in said and "tiny" in said and "other" in said


def test_the_encoder_of_a_space() -> None:
    world = WorldEncoder(device="cpu").space(torch.zeros(128), torch.ones(128))
    assert isinstance(find_encoder(world, "cpu"), WorldEncoder)
    for tag in ("open_clip:local-dir:sha256-0123", "open_clip:ViT-L-14:sha256-0123", "clip-retrieval"):
        space = make_space()
        object.__setattr__(space, "encoder", tag)
        with pytest.raises(ValueError, match="--encoder is needed: the CLIP of tiny"):
            find_encoder(space)
