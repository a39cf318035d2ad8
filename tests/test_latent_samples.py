"""The table of distributions, through the front door."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers.logger import DummyLogger

from eclipse_pl.__main__ import main as command
from eclipse_pl.callbacks.latent import LatentEvaluation
from eclipse_pl.cli import main
from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.latent.distribution import OF_CAPTIONS, OF_SETS, measure_samples
from eclipse_pl.lit_prior import LitPrior, no_optimizer
from eclipse_pl.loading import load_prior
from eclipse_pl.run import read_metrics
from tests.helpers.ranks import run_command, torchrun
from tests.helpers.runs import write_experiment

SAMPLES = ["--latent.samples", "3"]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_experiment(tmp_path_factory.mktemp("samples"))
    main(["fit", "--config", str(path), "--trainer.max_steps", "6", *SAMPLES])
    return path


def run_of(experiment: Path, version: str = "version_0") -> Path:
    return experiment.parent / "runs" / "tiny" / version


def report_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "latent.json").read_text())


@pytest.mark.long
def test_every_row_has_its_distribution(experiment: Path) -> None:
    report = report_of(run_of(experiment))["distribution"]
    assert report["samples"] == 3
    assert set(report["rows"]) == {"mean_image", "text_as_image", "ridge", "this prior", "upper_bound"}
    for row in report["rows"].values():
        assert set(row["all"]) == {*OF_CAPTIONS, *OF_SETS} and set(row["unseen"]) == set(OF_CAPTIONS)
    truth, ridge, prior = (report["rows"][row]["all"] for row in ("upper_bound", "ridge", "this prior"))
    for name, value in {
        "energy_score": 0,
        "spread": 0,
        "best_cosine": 1,
        "variance_ratio": 1,
        "frechet": 0,
        "coverage": 1,
    }.items():
        assert truth[name][0] == pytest.approx(value, abs=1e-3), name
    assert ridge["spread"][0] == pytest.approx(0, abs=1e-6) and ridge["variance_ratio"][0] < 1 and prior["spread"][0] > 0


@pytest.mark.long
def test_samples_are_the_priors_own_and_are_logged(experiment: Path) -> None:
    run = run_of(experiment)
    logged = [row for row in read_metrics(run / "metrics.csv") if row["val/energy_score"]][-1]
    rows = report_of(run)["distribution"]["rows"]
    row = rows["this prior"]
    for name in (*OF_CAPTIONS, *OF_SETS):
        assert float(logged[f"val/{name}"]) == pytest.approx(row["all"][name][0], rel=1e-5), name
        assert float(logged[f"val/ridge/{name}"]) == pytest.approx(rows["ridge"]["all"][name][0], rel=1e-5, abs=1e-6), name
    assert float(logged["val/seen/spread"]) == pytest.approx(row["seen"]["spread"][0], rel=1e-5)
    with np.load(run / "latent_pairs.npz", allow_pickle=False) as pairs:
        found = {name: pairs[name] for name in (*OF_CAPTIONS, "index")}
    assert found["spread"].mean() == pytest.approx(row["all"]["spread"][0], rel=1e-5)
    shards = ShardSet(experiment.parent / "shards")
    index = found["index"]
    records = np.searchsorted(shards.record_starts, index, side="right") - 1
    batch = shards.gather(records, index - shards.record_starts[records])
    prior = load_prior(str(run))
    drawn = torch.stack(
        [
            prior.sample(batch.text, [torch.Generator().manual_seed(seed_of(int(pair), number)) for pair in index])
            for number in range(3)
        ],
        1,
    )
    for name, values in measure_samples(drawn, batch.image_embed).items():
        np.testing.assert_allclose(found[name], values.numpy(), rtol=1e-3, atol=1e-4, err_msg=name)


def seed_of(pair: int, number: int) -> int:
    """The first sample is the prediction, which has the pair as its seed."""
    return pair if number == 0 else int(np.random.SeedSequence((pair, number)).generate_state(1, np.uint64)[0]) >> 1


@pytest.mark.processes
def test_the_distribution_depends_on_no_batch_and_no_rank(experiment: Path, tmp_path: Path) -> None:
    run, options = run_of(experiment), "--data.init_args.val_batch_size=3 --trainer.devices=2 --trainer.strategy=ddp"
    before = set(run.parent.iterdir())
    words = ["validate", "--config", str(experiment), "--ckpt_path", str(run), *SAMPLES, *options.split()]
    done = run_command(tmp_path / "said", words, torchrun(2))
    assert done.returncode == 0, done.stdout
    (again,) = set(run.parent.iterdir()) - before
    expected, found = (report_of(one)["distribution"]["rows"] for one in (run, again))
    for row, subsets in expected.items():
        for subset, metrics in subsets.items():
            for name, numbers in metrics.items():
                for one, other in zip(numbers, found[row][subset][name], strict=True):
                    same = one is other is None or math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-4)
                    assert same, (row, subset, name)


@pytest.mark.long
def test_off_unless_asked_for_and_one_sample_is_refused(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["validate", "--config", str(experiment), "--ckpt_path", str(run_of(experiment)), "--run.version", "plain"]
    main(arguments)
    assert "distribution" not in report_of(run_of(experiment, "plain"))
    assert command([*arguments[:-1], "other", "--latent.samples", "1"]) == 2
    error = capsys.readouterr().err
    assert "latent.samples is 1; the spread of a caption's samples needs at least 2" in error and "Traceback" not in error


@pytest.mark.long
def test_one_callback_measures_one_split_after_the_other(experiment: Path) -> None:
    """Nothing of the first split is in the table of the second."""
    data = EmbeddingDataModule(str(experiment.parent / "shards"), workers=0)
    reports = []
    for splits in (["val", "test"], ["test"]):
        latent = LatentEvaluation(16, samples=2)
        trainer = L.Trainer(
            accelerator="cpu",
            callbacks=[latent],
            logger=DummyLogger(),
            enable_checkpointing=False,
            use_distributed_sampler=False,
        )
        for split in splits:
            run = trainer.validate if split == "val" else trainer.test
            run(LitPrior(load_prior(str(run_of(experiment))), no_optimizer), data, verbose=False)
        reports.append({name: float(value) for name, value in trainer.callback_metrics.items()})
    assert reports[0] == pytest.approx(reports[1], nan_ok=True) and "test/mean_image/energy_score" in reports[0]
