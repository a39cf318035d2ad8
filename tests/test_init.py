"""`init` in a checkout; from a wheel see test_wheel.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from eclipse_pl.__main__ import main as command


@pytest.mark.parametrize("inside", ["work", "parts/work"])
def test_a_folder_within_the_experiments_is_refused(
    inside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """They were copied into themselves until a path was too long. In a checkout the package's folder is a link to them."""
    (tmp_path / "experiments" / "parts").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "experiments")
    monkeypatch.setattr("eclipse_pl.commands.init.EXPERIMENTS", tmp_path / "link")
    assert command(["init", str(tmp_path / "experiments" / inside)]) == 2
    said = capfd.readouterr().err
    assert f"lies in {tmp_path / 'experiments'}, which is copied. Choose a folder outside of it." in said
    assert not (tmp_path / "experiments" / inside).exists()
