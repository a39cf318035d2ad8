"""Files of our own prompts in the published formats of DPG-Bench, DSG-1k, GenEval 2 and GenAI-Bench."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

COLUMNS = (
    "item_id", "text", "keywords", "proposition_id", "dependency", "category_broad", "category_detailed", "tuple",
    "question_natural_language",
)  # fmt: skip
KITE = "a red kite on a round table"
LONG = f"{KITE}, " + ", ".join(f"and a spoon of the size {number}" for number in range(20))

Asked = tuple[int, str, str, str]
"""Number, dependency, tuple and question."""

KITE_QUESTIONS: tuple[Asked, ...] = (
    (1, "0", "entity - whole (kite)", "Is there a kite?"),
    (2, "0", "entity - whole (table)", "Is there a table?"),
    (3, "1", "attribute - color (kite, red)", "Is the kite red?"),
    (4, "1, 2", "relation - spatial (kite, table, on)", "Is the kite on the table?"),
    (5, "4", "other - count (kite, ==1)", "Is there one kite on the table?"),
)


def write_propositions(path: Path, items: dict[str, tuple[str, tuple[Asked, ...]]]) -> Path:
    """``items``: {item_id: (text, questions)}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for item, (text, questions) in items.items():
            for number, dependency, meaning, question in questions:
                broad, _, detailed = meaning.partition(" (")[0].partition(" - ")
                writer.writerow([item, text, "kite", number, dependency, broad, detailed, meaning, question])
    return path


def write_geneval2(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_genai_bench(folder: Path, prompts: list[str], skills: dict[str, list[int]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    entries = {f"{number:05d}": {"id": f"{number:05d}", "prompt": text, "models": {}} for number, text in enumerate(prompts)}
    (folder / "genai_image.json").write_text(json.dumps(entries, indent=2), encoding="utf-8")
    (folder / "genai_skills.json").write_text(json.dumps(skills), encoding="utf-8")
    return folder
