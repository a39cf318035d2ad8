from __future__ import annotations

import math
from typing import Any

from rich.console import Console
from rich.table import Table

from eclipse_pl.data.subset_names import ROWS
from eclipse_pl.latent.metrics import LABELS


def latent_table(report: dict[str, Any]) -> None:
    """Print rows x latent metrics, one block for each subset."""
    rows = report["rows"]
    subsets = list(rows["this prior"])
    metrics = list(rows["this prior"][subsets[0]])
    table = Table(
        title=f"{report['stage']} split, {report['pairs']} pairs, after {report['step']} steps{weight_of(report['prior'])}",
        title_justify="left",
        box=None,
    )
    table.add_column("")
    for name in metrics:
        table.add_column(name, justify="right")
    for subset in subsets:
        table.add_section()
        table.add_row(subset if len(subsets) > 1 else "", style="bold")
        for row in (name for name in ROWS if name in rows):
            values = [cell(rows[row][subset][name]) for name in metrics]
            table.add_row("  " + LABELS.get(row, row), *values, style="green" if row == "this prior" else None)
    Console(width=None if Console().is_terminal else 140).print(table)


def weight_of(prior: dict[str, Any]) -> str:
    """The contrastive weight of the prior, if it has one, and that weight by the variance of the image embeddings."""
    weight, relative = prior.get("contrastive_weight"), prior.get("relative_weight")
    if weight is None:
        return ""
    return f", contrastive weight {weight:.3g}" + ("" if relative is None else f" (relative {relative:.3g})")


def cell(value: float) -> str:
    """Three decimals, or a dash where there is no value (no counterpart in the split)."""
    return "-" if math.isnan(value) else f"{value:.3f}"
