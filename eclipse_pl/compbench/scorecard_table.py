from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eclipse_pl.compbench.scorecard import ALL, Card
from eclipse_pl.intervals import with_bounds


def scorecard_table(card: Card) -> None:
    """Print categories x scorers, each mean with its 95 % interval over prompts, and subsets below their category."""
    scorers = list(card["scores"])
    prompts = card["prompts"]
    table = Table(box=None)
    table.add_column("")
    for scorer in scorers:
        table.add_column(escape(scorer), justify="right")
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
    for line in distances(card):
        console.print(line, highlight=False)
    if card.get("cut_prompts"):
        console.print(
            f"{card['cut_prompts']} of {prompts['count']} prompts are longer than the text encoder reads: it cut them."
        )
    for scorer, answers in card.get("answers", {}).items():
        if "neither" in answers:
            share = f"{answers['neither']} of {answers['questions']} answers ({answers['neither'] / answers['questions']:.1%})"
            console.print(f"{escape(scorer)}: {share} are neither yes nor no.")
    if (card["text_to_image"].get("decoder") or {}).get("reads_caption"):
        console.print("The decoder reads the captions too, so these are no scores of the prior alone.")


def distances(card: Card) -> list[str]:
    """Return a line for each distance to reference images, with the number of images behind it."""
    measured = card.get("distribution", {})
    return [
        f"{name} {measured[name]:.4g} ({protocol['images']} generated and {protocol['reference']['images']} reference images)"
        for name, protocol in measured.get("protocol", {}).items()
    ]


def calibration_table(card: Card) -> None:
    """Print for each scorer the AUC, the share of images whose own caption wins, both with 95 % intervals, and the verdict."""
    table = Table("", "AUC", "own caption wins", "images", "", box=None)
    for scorer, entry in card["calibration"].items():
        table.add_row(
            escape(scorer),
            shown(entry.get("auc")),
            shown(entry.get("own_caption_wins")),
            str(entry["images"]),
            entry["verdict"],
        )
    console = Console(width=None if Console().is_terminal else 140)
    console.print(f"{card['prompts']['name']}: the true caption against that of another image")
    console.print(table)


def shown(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return ""
    if entry["mean"] is None:
        return "-"
    if entry["low"] is None:
        return f"{entry['mean']:.3f} ({entry['interval']})"
    return with_bounds(entry["mean"], entry["low"], entry["high"])
