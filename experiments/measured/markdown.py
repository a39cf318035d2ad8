"""A table in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from eclipse_pl.intervals import Estimate
from eclipse_pl.reports.tables import decimals_of, estimate_text


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


def estimates_table(corner: str, rows: Sequence[tuple[str, Sequence[Estimate]]], columns: Iterable[str]) -> str:
    """Rows of estimates with the largest number of seeds of each. A row without any is left out."""
    written = [
        [label, str(max(one.n for one in found)), *(estimate_text(one, decimals_of(found)) for one in found)]
        for label, found in rows
        if any(one.n for one in found)
    ]
    return markdown([corner, "n", *columns], written)
