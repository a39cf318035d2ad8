"""The scorecard: every image's scores, and their means by category."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eclipse_pl.compbench.scoring import none_if_nan
from eclipse_pl.compbench.unit import Unit
from eclipse_pl.files import json_bytes, write_atomically
from eclipse_pl.intervals import Groups, score_interval
from eclipse_pl.scorers.scorer import Scores

VERSION = 2
"""Version of the files in a benchmark's folder."""

ALL = "all"
NEEDED = ("text_to_image", "prompts", "images_per_prompt", "seed", "scorers", "scores")
AGAIN = "Write it again: run the benchmark's command again, or `test` of the run."
Card = dict[str, Any]


def rows_of(units: Sequence[Unit], scores: Mapping[str, Scores]) -> list[dict[str, Any]]:
    """Return one row per image, in order: prompt, file, and every scorer's value with its evidence."""
    rows = []
    for unit in units:
        of_image = {scorer: of_scorer[unit.key] for scorer, of_scorer in scores.items() if unit.key in of_scorer}
        rows.append(
            {
                "id": unit.prompt.id,
                "category": unit.prompt.category,
                "subset": unit.prompt.subset,
                "prompt": unit.prompt.text,
                "sample": unit.sample,
                "seed": unit.seed,
                "file": unit.file,
                "failed": next((score.failure for score in of_image.values() if score.failure), None),
                "scores": {
                    scorer: {"value": none_if_nan(score.value), "evidence": score.evidence}
                    for scorer, score in of_image.items()
                },
            }
        )
    return rows


def table_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    """Return {scorer: {category: {subset: {mean, low, high, interval, prompts, images, failed}}}}.

    Subset "all" is the whole category. Intervals are 95 %, over prompts, because images of one prompt resemble each other.
    ``interval`` names the method, or why there is none (`eclipse_pl.intervals`). Means leave failed images out.
    """
    table: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    groups: dict[tuple[str, str, str], list[tuple[str, float | None]]] = {}
    for row in rows:
        for scorer, score in row["scores"].items():
            for subset in dict.fromkeys((ALL, row["subset"])):
                if subset:
                    groups.setdefault((scorer, row["category"], subset), []).append((row["id"], score["value"]))
    for (scorer, category, subset), values in groups.items():
        good = [(prompt, value) for prompt, value in values if value is not None]
        entry: dict[str, Any] = {"mean": None, "low": None, "high": None, "interval": ""}
        if good:
            estimate = score_interval([Groups.of(np.array([[value] for _, value in good], float), [name for name, _ in good])])
            entry = {part: none_if_nan(getattr(estimate, part)) for part in ("mean", "low", "high")}
            entry["interval"] = estimate.method
        entry |= {"prompts": len({prompt for prompt, _ in good}), "images": len(good), "failed": len(values) - len(good)}
        table.setdefault(scorer, {}).setdefault(category, {})[subset] = entry
    return table


def score_name(scorer: str, category: str = ALL, subset: str = ALL) -> str:
    """Return the name of a score in logs, plots and tables: ``benchmark/CATEGORY/SUBSET/SCORER``, without "all"."""
    return "/".join(["benchmark", *(part for part in (category, subset) if part != ALL), scorer])


def metrics_of(card: Card) -> dict[str, float]:
    """Return means by `score_name`, and as ``benchmark/SCORER`` the mean over categories."""
    metrics: dict[str, float] = {}
    for scorer, categories in card["scores"].items():
        whole = [subsets[ALL]["mean"] for subsets in categories.values() if subsets[ALL]["mean"] is not None]
        if whole:
            metrics[score_name(scorer)] = sum(whole) / len(whole)
        for category, subsets in categories.items():
            for subset, entry in subsets.items():
                if entry["mean"] is not None:
                    metrics[score_name(scorer, category, subset)] = entry["mean"]
    return metrics


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write JSON lines atomically."""
    text = "".join(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows)
    write_atomically(path, text.encode())


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a benchmark's ``rows.jsonl``."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def write_card(path: Path, card: Card) -> None:
    write_atomically(path, json_bytes(card))


def read_card(path: Path) -> Card:
    """Read a scorecard.

    Raises:
        ValueError: It is damaged, or has another version.
    """
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        if missing := [name for name in NEEDED if name not in card]:
            raise ValueError(f"it has no {', '.join(missing)}")
        _ = card["text_to_image"].items(), card["scores"].items(), card["prompts"]["sha256"]
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}). {AGAIN}") from error
    if card.get("version") != VERSION:
        raise ValueError(
            f"{path} has version {card.get('version')}, and this program reads version {VERSION}. Write it again in another "
            "folder: run the benchmark's command with another --out, or `test` of the run."
        )
    content: Card = card
    return content
