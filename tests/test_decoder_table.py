"""The table of docs/decoders.md says what the parts say."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import yaml

import eclipse_pl.decoders
from eclipse_pl.model_folder import HUB_ID

ROOT = Path(__file__).parent.parent
COLUMNS = ("part", "class", "space", "pipeline", "needs", "steps, size", "captions")


def rows() -> dict[str, dict[str, str]]:
    """{part: {column: cell}}; a row may name several parts."""
    lines = [line for line in (ROOT / "docs/decoders.md").read_text().splitlines() if line.startswith("|")]
    head, _, *body = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert tuple(head) == COLUMNS
    cells = [dict(zip(COLUMNS, row, strict=True)) for row in body]
    return {name.strip(" `"): one for one in cells for name in one["part"].split(",")}


def parts() -> dict[str, dict[str, Any]]:
    return {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "experiments/parts/decoder").glob("*.yaml")}


def test_the_table_has_every_part_and_every_class() -> None:
    assert set(rows()) == set(parts())
    assert {one["class"].strip("`") for one in rows().values()} >= set(eclipse_pl.decoders.__all__) - {"Decoder"}


def test_each_row_is_what_its_part_says() -> None:
    for name, part in parts().items():
        row, options = rows()[name], part["init_args"]
        module, _, kind = part["class_path"].rpartition(".")
        assert row["class"] == f"`{kind}`"
        reads = getattr(importlib.import_module(module), kind).reads_caption or options.get("read_caption", False)
        assert row["captions"] == ("read" if reads else "not read"), name
        assert row["space"] == (f"`{options['space']}`" if "space" in options else "the world")
        assert row["pipeline"].startswith(f"`{options['model']}`" if "model" in options else ("in the package", "none")), name
        named = {f"`{value}`" for value in options.values() if isinstance(value, str) and HUB_ID.fullmatch(value)}
        named |= {f"`{options['adapter_file']}`"} if "adapter_file" in options else set()
        text = " ".join(row.values())
        assert all(one in text for one in named), name
        steps, size = row["steps, size"].split(", ")
        assert steps == str(options.get("steps", "-")), name
        assert size == str(options.get("size", {"karlo": 256}.get(name, 64))), name
