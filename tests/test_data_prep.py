"""``python -m data_prep``: the table of commands, and what a mistake gets."""

from __future__ import annotations

import resource
import subprocess
import sys
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
    assert (
        error.startswith("error: there is no command 'wrold'. Near it: world. The commands are world, ")
        and error.count("\n") == 1
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_without_its_options_says_what_is_missing(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command])
    assert stopped.value.code == 2 and "required" in capsys.readouterr().err


def test_world_writes_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--train", "12", "--val", "6", "--test", "6", "--shard-pairs", "10"]
    assert main(["world", "--out", str(tmp_path), *sizes]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0000.tar", "0001.tar", "0002.tar", "0003.tar"]
    assert "24 pairs in 4 tars" in capsys.readouterr().out


def test_what_the_user_can_put_right_is_one_line_and_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world", "--out", str(tmp_path), "--train", "-1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1


@pytest.mark.processes
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    limit = 100_000  # bytes a file: a write beyond it fails as on a full disk
    done = subprocess.run(
        [sys.executable, "-m", "data_prep", "world", "--out", str(tmp_path), "--train", "300", "--val", "0", "--test", "0"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert not list(tmp_path.iterdir())
