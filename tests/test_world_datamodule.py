"""The world's data module builds missing shards once, and refuses those of another world."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.__main__ import main as data_prep
from eclipse_pl.world.datamodule import WorldDataModule

SIZES = {"train_pairs": 24, "val_pairs": 12, "test_pairs": 12}
BUILD = """
import sys
from eclipse_pl.world.datamodule import WorldDataModule
WorldDataModule(folder=sys.argv[1], batch_size=8, train_pairs=24, val_pairs=12, test_pairs=12).prepare_data()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by two processes that start together; a blank in its name must not break the command that repairs it."""
    folder = tmp_path_factory.mktemp("a world") / "shards"
    command = [sys.executable, "-c", BUILD, str(folder)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    # without a terminal a line is printed for each shard made: one process made them all
    assert sorted(out.count("0000.tar:") for out, _ in outputs) == [0, 1]
    return folder


def test_built_once_with_every_split(folder: Path) -> None:
    data = WorldDataModule(folder=str(folder), batch_size=8, workers=0, **SIZES)
    assert data.shards.manifest.splits == {"train": 24, "val": 12, "test": 12}
    batch = next(iter(data.val_dataloader()))
    assert set(batch.subsets or []) <= {"seen", "unseen"} and batch.negative_embed is not None
    assert {subset for batch in data.val_dataloader() for subset in batch.subsets or []} == {"seen", "unseen"}
    assert data_prep(["verify", str(folder)]) == 0


def test_its_command_repairs_it(folder: Path) -> None:
    data = WorldDataModule(folder=str(folder), batch_size=8, **SIZES)
    shard = folder / data.shards.manifest.shards[0].name
    before = shard.read_bytes()
    shard.write_bytes(before[:-512])
    for command in data.shards.manifest.made_by.split(" && "):
        assert data_prep(shlex.split(command)[3:]) == 0
    assert shard.read_bytes() == before


def test_another_world_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"holds another world: .*'train': 24.*Choose another data\.folder"):
        WorldDataModule(folder=str(folder), batch_size=8, **{**SIZES, "train_pairs": 25}).prepare_data()
