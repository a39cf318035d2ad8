"""Tables of experiments/README.md are those of the committed files of numbers."""

from __future__ import annotations

import csv
import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


@pytest.fixture
def measured() -> ModuleType:
    specification = importlib.util.spec_from_file_location("measured", EXPERIMENTS / "measured.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_tables_are_those_of_the_results(measured: ModuleType) -> None:
    measured.main(["--check"])


def test_every_file_of_results_says_its_command_and_commit() -> None:
    files = [path for path in (EXPERIMENTS / "results").glob("*.csv") if path.name != "world_detail.csv"]
    assert files
    for path in files:
        command, commit, *table = path.read_text().splitlines()
        assert command.startswith(f"# python -m eclipse_pl sweep experiments/sweeps/{path.stem}.yaml"), path
        assert commit.startswith("# commit "), path
        assert all(row["state"] == "finished" for row in csv.DictReader(table))


def test_a_table_of_other_numbers_is_found(measured: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seeds of two priors: means, t-intervals, paired differences; then a cell is changed by hand."""
    (tmp_path / "results").mkdir()
    columns = (
        "seed_everything,data,model.prior,state,val/energy_score,val/mean_cosine,val/spread,val/variance_ratio,val/frechet"
    )
    lines = [
        f"{seed},experiments/parts/data/world_detail_50.yaml,experiments/parts/prior/{prior}_world.yaml,finished,{value},0.5,0.1,1,2"
        for prior, values in {"projection": (10, 12), "energy": (7, 8)}.items()
        for seed, value in enumerate(values)
    ]
    (tmp_path / "results/detail_world.csv").write_text("\n".join(["# command", "# commit", columns, *lines]))
    monkeypatch.setattr(measured, "HERE", tmp_path)
    runs = measured.Runs("detail_world")
    difference = runs.difference("energy_world", "world_detail_50", "val/energy_score")
    half = 12.706 * math.sqrt(0.5) / math.sqrt(2)
    assert (difference.mean, difference.n, difference.high) == (-3.5, 2, pytest.approx(-3.5 + half, abs=1e-3))
    places = "\n".join(f"<!-- table: {name} -->\n\n<!-- end -->" for name in measured.TABLES)
    text = measured.with_tables(places)
    assert "| energy | 0, 0, 2, 0 | – | – | 8 ± 6 | – |" in text
    assert measured.with_tables(text) == text
    (tmp_path / "README.md").write_text(text.replace("8 ± 6", "8 ± 1"))
    with pytest.raises(ValueError, match=r"README\.md has other tables than results/"):
        measured.main(["--check"])
    with pytest.raises(ValueError, match=r"README\.md has places for the tables none"):
        measured.with_tables("no place")
