"""``python -m data_prep``: the table of commands, and what a mistake gets."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from data_prep.__main__ import COMMANDS, main


def test_every_command_has_its_file() -> None:
    assert all(find_spec(module) for module in COMMANDS.values())


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in COMMANDS)


def test_unknown_command_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wrold"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: there is no command 'wrold'; the commands are world, ") and error.count("\n") == 1


def test_world_writes_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--train", "12", "--val", "6", "--test", "6", "--shard-pairs", "10"]
    assert main(["world", "--out", str(tmp_path), *sizes]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0000.tar", "0001.tar", "0002.tar", "0003.tar"]
    assert "24 pairs in 4 tars" in capsys.readouterr().out


def test_what_the_user_can_put_right_is_one_line_and_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world", "--out", str(tmp_path), "--train", "-1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
