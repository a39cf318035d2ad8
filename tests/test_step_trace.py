"""``trainer.profiler``: a trace of ten steps in the run's folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eclipse_pl.__main__ import main as command
from tests.helpers.runs import write_experiment

pytestmark = pytest.mark.long

OVERLAY = Path(__file__).parents[1] / "experiments" / "overlays" / "profile.yaml"


def test_the_documented_command_writes_a_trace_of_ten_steps(tmp_path: Path) -> None:
    config = write_experiment(tmp_path, trainer__log_every_n_steps=8, trainer__val_check_interval=100)
    assert command(["fit", "--config", str(config), "--config", str(OVERLAY)]) == 0
    run = tmp_path / "runs" / "tiny" / "version_0"
    trace = json.loads((run / "trace_0.json").read_text())
    named = [event["name"] for event in trace["traceEvents"] if "name" in event]
    assert named.count("run_training_batch") == 10
    assert sum(name.startswith("Optimizer.step#AdamW") for name in named) == 10
    assert any("train_dataloader_next" in name for name in named)
    assert (run / "trace_0.json").stat().st_size < 30e6


def test_a_run_that_is_too_short_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = write_experiment(tmp_path, trainer__val_check_interval=100)
    assert command(["fit", "--config", str(config), "--config", str(OVERLAY), "--trainer.max_steps=25"]) == 0
    assert (
        "The run ended after 25 batches, and the trace begins after 20 and ends after 30: no trace was written" in caplog.text
    )
    assert not list(tmp_path.glob("runs/*/*/trace*"))
