"""A decoder that reads the captions too is marked where its scores are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eclipse_pl.compbench.scorecard_table import scorecard_table
from tests.helpers.compared_runs import compare, flowing
from tests.helpers.scored_folders import card_of, prior, scored

SENTENCE = "The decoder reads the captions too"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def identity(name: str, **settings: Any) -> dict[str, Any]:
    one = prior(name)
    return {**one, "decoder": {**one["decoder"], **settings}}


def test_a_scorecard_says_that_the_decoder_reads_the_captions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, settings in (("blind", {}), ("reader", {"reads_caption": True})):
        scorecard_table(card_of(scored(tmp_path / name, identity=identity(name, **settings))))
        assert (SENTENCE in capsys.readouterr().out) == bool(settings)


@pytest.mark.long
def test_a_comparison_says_it_of_all_that_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readers = [scored(tmp_path / name, at, identity(f"org/{name}", reads_caption=True)) for at, name in enumerate("ab")]
    compare(*readers)
    assert "The decoder of org/a; org/b reads the captions too, so these scores are not" in flowing(capsys)
    blind = [scored(tmp_path / name, at, identity(f"org/{name}")) for at, name in enumerate("cd")]
    compare(*blind)
    assert "reads the captions" not in flowing(capsys)
