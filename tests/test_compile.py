"""torch.compile of a training step: no graph breaks, and few graphs for many batches."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.every_prior import OPTIONS, build

MOST = 8
"""Graphs for 200 batches, whose captions have MSCOCO's lengths. torch compiles one at most as often before it gives up."""

WITH_A_DERIVATIVE = ("MeanFlowPrior", "LoraPrior", "BestOfPrior")
"""Built so that their losses hold MeanFlow's derivative, which torch cannot compile; `IN_PARTS` of the helper."""


@pytest.mark.long
@pytest.mark.processes
def test_losses_compile_whole_and_seldom() -> None:
    command = [sys.executable, "-m", "tests.helpers.compiled_losses"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    trained = {kind.__name__ for kind, several in OPTIONS.items() if list(build(kind, several[0]).parameters())}
    assert counts.keys() == trained | {"every branch"} | (parts := {f"{name} in parts" for name in WITH_A_DERIVATIVE})
    assert all(counts[name] == 2 for name in parts), counts
    assert max(counts.values()) <= MOST, counts
