"""Published figures of the ECLIPSE paper in one table with ours."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from eclipse_pl.reports.score_comparison import ScoreColumn, ScoreComparison
from eclipse_pl.reports.tables import Table, TableRow, estimate_texts, name_of

COMPBENCH = "T2I-CompBench"
"""Name of its prompt sets."""
RULES = {
    "color": "blip_vqa",
    "shape": "blip_vqa",
    "texture": "blip_vqa",
    "spatial": "unidet_rules",
    "non_spatial": "clip_score",
}
"""Categories of the paper's tables, and how the names of scorers begin that follow T2I-CompBench's rule for them."""
WHY_THEY_DIFFER = (
    "Published figures and ours are not one measurement: the paper names no version of its scorers and no number of noun "
    "phrases (2 was T2I-CompBench's default until December 2023, and 8 since), some prompts were edited since (color, "
    "September 2025), its spatial score is by UniDet and ours by the detector in its name, and neither seeds nor intervals "
    "are published."
)


@dataclass(frozen=True)
class PublishedTable:
    """Rows are a name and a value for each column: a number, or as it is printed where it has a mark."""

    title: str
    caption: str
    columns: list[str]
    rows: list[list[str | float | int]]


@cache
def published() -> tuple[str, list[PublishedTable]]:
    """Where the figures come from, and the figures."""
    content = json.loads(files("eclipse_pl.reports").joinpath("published.json").read_text(encoding="utf-8"))
    return content["source"], [PublishedTable(**table) for table in content["tables"]]


def published_tables(scores: ScoreComparison) -> list[Table]:
    """Published rows, each marked as such, below ours; none where other prompts or categories were generated."""
    scored = {
        category for record in scores.records for categories in record.card["scores"].values() for category in categories
    }
    if any(record.card["prompts"].get("name") != COMPBENCH for record in scores.records) or not scored & RULES.keys():
        return []
    source, tables = published()
    return [table_of(scores, table, source) for table in tables]


def ours_of(scores: ScoreComparison) -> dict[str, ScoreColumn]:
    """{category: the scorer's column that follows the published rule}; those that are there."""
    found: dict[str, ScoreColumn] = {}
    for scorer in scores.scorers:
        for column in scores.columns(scorer):
            if not column.is_mean and scorer.startswith(RULES.get(column.title, "\0")):
                found.setdefault(column.title, column)
    return found


def table_of(scores: ScoreComparison, table: PublishedTable, source: str) -> Table:
    columns = ours_of(scores)
    texts = [
        estimate_texts(scores, columns[name]) if name in columns else ["–"] * len(scores.variants) for name in table.columns
    ]
    ours = [
        TableRow(f"{name_of(scores, variant)} (ours)", list(cells))
        for variant, cells in zip(scores.variants, zip(*texts, strict=True), strict=True)
    ]
    theirs = [
        TableRow(
            str(name),
            [printed(value, column in RULES) for column, value in zip(table.columns, values, strict=True)],
            "published",
        )
        for name, *values in table.rows
    ]
    scorers = "; ".join(f"{name} by {column.scorer}" for name, column in columns.items() if name in table.columns)
    return Table(
        f"{table.title} of the ECLIPSE paper",
        table.columns,
        [*ours, *theirs],
        f"{table.caption} Published: {source}. Ours: {scorers or 'by no scorer of its kind'}.",
    )


def printed(value: str | float | int, is_score: bool) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.4f}" if is_score else f"{value:,g}"
