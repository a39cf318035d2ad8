from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from eclipse_pl.compbench.generation import Step
from eclipse_pl.compbench.ranks import Ranks
from eclipse_pl.compbench.unit import Unit, blocks
from eclipse_pl.files import json_bytes, write_atomically
from eclipse_pl.scorers.network_scorer import UNREADABLE
from eclipse_pl.scorers.scorer import Score, Scorer, Scores


@dataclass
class Scoring:
    """A scorer and the categories that it scores.

    Args:
        scorer: The scorer.
        categories: Categories of prompts that it scores. An empty list means all.
        part: Its part of 3-in-1, the score of T2I-CompBench's complex prompts. Null means none.
    """

    scorer: Scorer
    categories: list[str] = field(default_factory=list)
    part: Literal["attribute", "spatial", "clip"] | None = None

    def covers(self, unit: Unit) -> bool:
        return (not self.categories or unit.prompt.category in self.categories) and self.scorer.covers(unit.prompt)


def score_units(units: Sequence[Unit], scoring: Scoring, folder: Path, ranks: Ranks, size: int, step: Step) -> None:
    """Score this rank's unfinished blocks. Each block is one file below ``scores/``, and writes are atomic.

    Raises:
        ValueError: The folder holds scores of another version of the scorer.
    """
    scorer = scoring.scorer
    place = folder / "scores" / slug(scorer.name)
    place.mkdir(parents=True, exist_ok=True)
    for number, block in blocks([unit for unit in units if scoring.covers(unit)], size):
        if not ranks.owns(number):
            continue
        path = block_path(place, scoring, number)
        if read_block(path, scorer) is None:
            scores = score_files(scorer, block, folder)
            rows = [
                {"id": unit.prompt.id, "seed": unit.seed, "value": none_if_nan(score.value), "evidence": score.evidence}
                for unit, score in zip(block, scores, strict=True)
            ]
            write_atomically(path, json_bytes({"scorer": scorer.name, "version": scorer.version, "rows": rows}))
        step(len(block))


def read_scores(units: Sequence[Unit], scoring: Scoring, folder: Path, size: int) -> Scores:
    """Read the scores of `score_units` from all ranks."""
    place = folder / "scores" / slug(scoring.scorer.name)
    scores: Scores = {}
    for number, _ in blocks([unit for unit in units if scoring.covers(unit)], size):
        rows = read_block(block_path(place, scoring, number), scoring.scorer)
        assert rows is not None, "every rank has finished"
        scores |= {
            (row["id"], row["seed"]): Score(math.nan if row["value"] is None else row["value"], row["evidence"])
            for row in rows
        }
    return scores


def score_files(scorer: Scorer, units: Sequence[Unit], folder: Path) -> list[Score]:
    """Return a score for each image. An unreadable image gets a failed score."""
    images: dict[int, Image.Image] = {}
    scores: dict[int, Score] = {}
    for number, unit in enumerate(units):
        try:
            with Image.open(folder / unit.file) as opened:
                images[number] = opened.convert("RGB")
        except UNREADABLE as error:
            scores[number] = Score.failed(f"{unit.file} cannot be read ({error}).")
    scored = scorer.score(list(images.values()), [units[number].prompt for number in images])
    scores |= dict(zip(images, scored, strict=True))
    return [scores[number] for number in range(len(units))]


def read_block(path: Path, scorer: Scorer) -> list[dict[str, Any]] | None:
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["version"] != scorer.version:
        raise ValueError(
            f"{path.parent} holds scores of another version of {scorer.name}: {content['version']}, and this run has "
            f"{scorer.version}. They are never mixed: choose another folder."
        )
    rows: list[dict[str, Any]] = content["rows"]
    return rows


def block_path(place: Path, scoring: Scoring, number: int) -> Path:
    """Name the file of a block. A scorer can occur twice, with different categories."""
    categories = "-".join(scoring.categories) or "all"
    return place / f"{categories}-{number:06d}.json"


def slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._@-]+", "_", name).strip("_")


def none_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else value
