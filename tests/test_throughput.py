"""The time that a run waits for data."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from eclipse_pl.__main__ import main
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.priors.eclipse import EclipsePrior
from eclipse_pl.run import read_metrics
from tests.helpers.runs import write_experiment


def waiting(folder: Path) -> list[float]:
    """The share of each step of a run of six."""
    folder.mkdir()
    experiment = write_experiment(folder, trainer__max_steps=6, trainer__limit_val_batches=0, latent__ridge_pairs=0)
    assert main(["fit", "--config", str(experiment)]) == 0
    rows = read_metrics(next((folder / "runs" / "tiny").glob("*")) / "metrics.csv")
    return [float(row["waiting_for_data"]) for row in rows if row.get("waiting_for_data")]


def slowed(method: Any) -> Any:
    def slow(*args: Any, **options: Any) -> Any:
        time.sleep(0.2)
        return method(*args, **options)

    return slow


@pytest.mark.long
def test_the_share_of_time_that_the_loop_waits_for_data(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ShardSet, "gather", slowed(ShardSet.gather))
        loader = waiting(tmp_path / "loader")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EclipsePrior, "losses", slowed(EclipsePrior.losses))
        step = waiting(tmp_path / "step")
    assert len(loader) == len(step) == 6
    assert all(0 <= share <= 1 for share in loader + step)
    assert min(loader[1:]) > 0.6 and max(step[1:]) < 0.4
