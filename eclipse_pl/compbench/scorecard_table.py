from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from eclipse_pl.compbench.scorecard import ALL, Card


def scorecard_table(card: Card) -> None:
    """Print categories x scorers, each with its 95 % interval over prompts (or why it has none), subsets below a category."""
    scorers = list(card["scores"])
    prompts = card["prompts"]
    table = Table(box=None)
    table.add_column("")
    for scorer in scorers:
        table.add_column(scorer, justify="right")
    for category in dict.fromkeys(category for scorer in scorers for category in card["scores"][scorer]):
        of_category = [card["scores"][scorer].get(category, {}) for scorer in scorers]
        for subset in dict.fromkeys(subset for subsets in of_category for subset in subsets):
            name = category if subset == ALL else f"  {subset}"
            table.add_row(
                name, *(cell(subsets.get(subset)) for subsets in of_category), style="bold" if subset == ALL else None
            )
    console = Console(width=None if Console().is_terminal else 140)
    # as a title of the table it would be wrapped to the table's width
    console.print(f"{prompts['name']}: {prompts['count']} prompts x {card['images_per_prompt']} images, seed {card['seed']}")
    console.print(table)


def cell(value: dict[str, Any] | None) -> str:
    if value is None:
        return ""
    if value["mean"] is None:
        return "-"
    if value["low"] is None:
        return f"{value['mean']:.3f} ({value['interval']})"
    return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
