"""The time that a run waits for data, by a clock that only the loader and the step move."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from eclipse_pl.__main__ import main
from eclipse_pl.callbacks import throughput
from eclipse_pl.callbacks.samples import SampleImages
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.priors.eclipse import EclipsePrior
from eclipse_pl.run import read_metrics
from eclipse_pl.training import loop
from tests.helpers.pipelines import kandinsky
from tests.helpers.runs import write_experiment
from tests.helpers.runs_with_images import experiment


@pytest.mark.long
def test_the_share_of_time_that_the_loop_waits_for_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three seconds for a batch and one for its step, and nothing of a validation."""
    now = 0.0

    def takes(seconds: float, method: Any) -> Any:
        def slow(*args: Any, **options: Any) -> Any:
            nonlocal now
            now += seconds
            return method(*args, **options)

        return slow

    for module in (loop, throughput):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(ShardSet, "gather", takes(3, ShardSet.gather))
    monkeypatch.setattr(EclipsePrior, "losses", takes(1, EclipsePrior.losses))
    config = write_experiment(tmp_path, trainer__max_steps=6, latent__ridge_pairs=0, trainer__log_every_n_steps=2)
    assert main(["fit", "--config", str(config)]) == 0
    rows = read_metrics(next((tmp_path / "runs" / "tiny").glob("*")) / "metrics.csv")
    assert [float(row["waiting_for_data"]) for row in rows if row.get("waiting_for_data")] == [0.75] * 3


def test_the_time_of_sample_images_is_none_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One second for a step, and a hundred for the images after every second one."""
    now = 0.0

    def losses(*args: Any) -> Any:
        nonlocal now
        now += 1
        return trained(*args)

    def sheet(*args: Any) -> Image.Image:
        nonlocal now
        now += 100
        return Image.new("RGB", (8, 8))

    trained = EclipsePrior.losses
    monkeypatch.setattr(throughput, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(EclipsePrior, "losses", losses)
    monkeypatch.setattr(SampleImages, "_sheet", sheet)
    kandinsky(tmp_path / "decoder", dim=128)
    samples = {"every_n_steps": 2, "prompts": ["a red star"]}
    config = experiment(tmp_path, "run", samples=samples, benchmark={}, latent__ridge_pairs=0, trainer__max_steps=5)
    assert main(["fit", "--config", str(config)]) == 0
    rows = read_metrics(tmp_path / "run" / "runs" / "tiny" / "version_0" / "metrics.csv")
    logged = [(float(row["samples_per_second"]), float(row["train_seconds"])) for row in rows if row.get("samples_per_second")]
    assert logged == [(8, seconds) for seconds in range(1, 6)]


def test_a_run_that_logs_no_steps_logs_its_validations(tmp_path: Path) -> None:
    config = write_experiment(tmp_path, trainer__max_steps=2, trainer__val_check_interval=2, trainer__log_every_n_steps=0)
    assert main(["fit", "--config", str(config)]) == 0
    rows = read_metrics(next((tmp_path / "runs" / "tiny").glob("*")) / "metrics.csv")
    assert [(row["step"], row["samples_seen"]) for row in rows] == [("1", "16.0")]
    assert not {"samples_per_second", "waiting_for_data", "train/total", "lr"} & rows[0].keys()
