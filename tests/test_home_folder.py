"""``~`` in a YAML or in Python, which no shell expands, is the user's home, and no folder of this name is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.__main__ import main as data_prep
from eclipse_pl.cli import main
from eclipse_pl.sweeps.target import RunTarget
from tests.helpers.runs import write_experiment
from tests.test_merge import make_set

pytestmark = pytest.mark.long


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's home; the working folder is another one."""
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


def test_runs_are_written_resumed_and_found_there(home: Path) -> None:
    experiment = write_experiment(home, trainer__max_steps=2, run__folder="~/runs", run__version="one")
    main(["fit", "--config", str(experiment)])
    main(["fit", "--config", str(experiment), "--trainer.max_steps=3", "--ckpt_path=last"])
    main(["fit", "--config", str(experiment), "--trainer.max_steps=4", "--ckpt_path=~/runs/tiny/one"])
    assert [path.name for path in (home / "runs" / "tiny").iterdir()] == ["one"]
    target = RunTarget("swept", "seed=1", ["fit", "--config", str(experiment)])
    assert target.folder == home / "runs" / "swept" / "seed=1"
    assert not any(Path.cwd().iterdir())


def test_tars_and_merged_sets_are_written_there(home: Path) -> None:
    assert not data_prep(["world", "--out=~/raw", "--train=2", "--val=0", "--test=0"])
    assert [path.name for path in (home / "raw").glob("*.tar")] == ["0000.tar"]
    make_set(home / "one", 0)
    make_set(home / "two", 1000)
    assert not data_prep(["merge", "~/one", "~/two", "--out=~/both"])
    assert (home / "both" / "manifest.json").is_file() and not any(Path.cwd().iterdir())
