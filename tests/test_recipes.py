"""docs/recipes.md: its sizes are computed ones, its filter runs, and img2dataset writes tars that the next command reads."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from data_prep.quantities import in_bytes
from data_prep.shard_bytes import ShardBytes
from tests.test_readme import ROOT, blocks

PAGE = ROOT / "docs/recipes.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text().splitlines()
    if re.match(r"\| (MSCOCO|CC|LAION)", line)
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_sizes_are_computed(row: list[str]) -> None:
    pairs, tokens = int(row[1].replace(",", "")), float(row[3])
    states = [in_bytes(ShardBytes(width, width, tokens).of_set(pairs, "states, float16")) for width in (768, 1280)]
    assert row[4:] == [*states, in_bytes(ShardBytes(768, 768, tokens).of_set(pairs, "pooled only"))]
    assert int(row[2].replace(",", "")) >= pairs / 10_000, "a tar has 10,000 URLs"


def test_there_are_four() -> None:
    assert len(ROWS) == 4


def sections() -> list[str]:
    """The parts of the page that have a command of img2dataset."""
    return [part for part in PAGE.read_text().split("\n## ") if "\nimg2dataset " in part]


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.splitlines()[0])
def test_img2dataset_writes_where_embed_reads(section: str) -> None:
    (command,) = re.findall(r"^img2dataset (--.*)$", section.replace("\\\n", " "), re.MULTILINE)
    words = shlex.split(command)
    options = dict(zip(words[::2], words[1::2], strict=True))
    assert options["--output_format"] == "webdataset" and options["--resize_mode"] == "keep_ratio"
    sources = re.findall(r"--source '([^']+)'", section)
    assert sources and set(sources) == {f"{options['--output_folder']}/*.tar"}
    (out,) = set(re.findall(r"embed .*--out (\S+)", section))
    assert f"verify {out}" in section
    experiment = re.findall(r"--config (experiments/eclipse_\w+\.yaml)", section)[0]
    part = (ROOT / experiment.replace("eclipse_", "parts/data/")).read_text()
    assert f"--data.init_args.folder {out}" in section or f"folder: {out}\n" in part


def test_the_filter_of_laion_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = {
        "URL": [f"http://{number}" for number in range(6)],
        "TEXT": [f"caption {number}" for number in range(6)],
        "LANGUAGE": ["en", "de", "en", "en", "en", "en"],
        "punsafe": np.array([0, 0, 0.9, 0, 0, np.nan], dtype=np.float32),
        "pwatermark": np.array([0.1, 0, 0, 0.8, 0.2, 0], dtype=np.float32),
        "similarity": np.array([0.35, 0.4, 0.4, 0.4, 0.1, 0.4], dtype=np.float32),
    }
    (tmp_path / "laion-high-resolution").mkdir()
    pq.write_table(pa.table(rows), tmp_path / "laion-high-resolution/part-00000.parquet")
    monkeypatch.chdir(tmp_path)
    exec(blocks(PAGE, "python")[0], {})
    assert pq.read_table("highres.parquet").to_pylist() == [{"URL": "http://0", "TEXT": "caption 0"}]
