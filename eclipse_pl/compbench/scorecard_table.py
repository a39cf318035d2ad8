from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from eclipse_pl.compbench.scorecard import ALL, Card


def scorecard_table(card: Card) -> None:
    """Print categories x scorers, each mean with its 95 % interval over prompts, and subsets below their category."""
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
                name, *(shown(subsets.get(subset)) for subsets in of_category), style="bold" if subset == ALL else None
            )
    console = Console(width=None if Console().is_terminal else 140)
    # a title of the table would be wrapped to the table's width
    console.print(f"{prompts['name']}: {prompts['count']} prompts x {card['images_per_prompt']} images, seed {card['seed']}")
    console.print(table)
    if (card["text_to_image"].get("decoder") or {}).get("reads_caption"):
        console.print("The decoder reads the captions too, so these are no scores of the prior alone.")


def shown(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return ""
    if entry["mean"] is None:
        return "-"
    if entry["low"] is None:
        return f"{entry['mean']:.3f} ({entry['interval']})"
    return f"{entry['mean']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"
