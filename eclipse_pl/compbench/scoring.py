from __future__ import annotations

import glob
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from eclipse_pl.arguments import near
from eclipse_pl.compbench.generation import Step
from eclipse_pl.compbench.ranks import Ranks
from eclipse_pl.compbench.unit import Unit, blocks
from eclipse_pl.files import json_bytes, write_atomically
from eclipse_pl.prompts.prompt import Prompt, PromptSet
from eclipse_pl.scorers.network_scorer import UNREADABLE
from eclipse_pl.scorers.scorer import Score, Scorer, Scores
from eclipse_pl.scorers.three_in_one import PART_NAMES, PARTS, three_in_one


@dataclass
class Scoring:
    """A scorer and the categories that it scores.

    Args:
        scorer: The scorer.
        categories: Categories of prompts that it scores. An empty list means all.
        part: Its part of 3-in-1, the score of T2I-CompBench's complex prompts, which needs all three. Null means none.
    """

    scorer: Scorer
    categories: list[str] = field(default_factory=list)
    part: Literal["attribute", "spatial", "clip"] | None = None

    def covers(self, unit: Unit) -> bool:
        return (not self.categories or unit.prompt.category in self.categories) and self.scorer.covers(unit.prompt)

    def prompts(self, units: Sequence[Unit]) -> list[Prompt]:
        """Return the prompts that it scores, each once."""
        return list({unit.prompt.id: unit.prompt for unit in units if self.covers(unit)}.values())

    def require_scorable(self, units: Sequence[Unit]) -> None:
        """Raise ValueError where every prompt lacks what the scorer needs, because every image would count as failed."""
        prompts = self.prompts(units)
        missing = [self.scorer.missing(prompt) for prompt in prompts]
        if prompts and all(missing):
            raise ValueError(
                f"{self.scorer.name} could score none of its {len(prompts)} prompts: {prompts[0].id} ({prompts[0].text!r}), "
                f"the first one, has no {missing[0]}. Read the prompts with another parser, or give the scorer other "
                "categories, or remove it."
            )


def require_one_of_each_part(scorers: Sequence[Scoring]) -> None:
    """Raise ValueError unless 3-in-1 has one scorer of each part, or none of any."""
    named: dict[str, str] = {}
    for scoring in scorers:
        if scoring.part is None:
            continue
        name = scoring.scorer.name
        if named.setdefault(scoring.part, name) != name:
            raise ValueError(
                f"{named[scoring.part]} and {name} both are part {scoring.part} of 3-in-1, which has one scorer of each part: "
                "set the `part` of one of them to null."
            )
    if named and (missing := [part for part in PART_NAMES if part not in named]):
        has = " and ".join(f"{name} (part {part})" for part, name in named.items())
        raise ValueError(
            f"3-in-1 needs one scorer of each part ({', '.join(PART_NAMES)}). There is {has}, and none of "
            f"{' and '.join(missing)}: add a scorer with `part: {missing[0]}`, or set the `part` of all scorers to null."
        )


def parts_of(scorers: Sequence[Scoring], units: Sequence[Unit]) -> tuple[dict[str, str], list[Prompt]]:
    """Return the scorers' names by their parts of 3-in-1, and the complex prompts. Both are empty where it is not computed."""
    parts: dict[str, str] = {scoring.part: scoring.scorer.name for scoring in scorers if scoring.part}
    prompts = list({unit.prompt.id: unit.prompt for unit in units if unit.prompt.subset in PARTS}.values())
    return (parts, prompts) if parts and prompts else ({}, [])


def require_parts(scorers: Sequence[Scoring], units: Sequence[Unit]) -> None:
    """Raise ValueError where a part of 3-in-1 does not score all the complex prompts that it counts for."""
    parts, prompts = parts_of(scorers, units)
    for part, name in parts.items():
        scored = {prompt.id for scoring in scorers if scoring.scorer.name == name for prompt in scoring.prompts(units)}
        if lacking := [prompt for prompt in prompts if part in PARTS[prompt.subset] and prompt.id not in scored]:
            raise ValueError(
                f"3-in-1 needs a score of {name} (part {part}) for each complex prompt, and its categories leave out "
                f"{len(lacking)} of them, {lacking[0].id} first. Add {lacking[0].category!r} to its categories, or set the "
                "`part` of all scorers to null."
            )


def joined(scorers: Sequence[Scoring], units: Sequence[Unit], scores: Mapping[str, Scores]) -> dict[str, Scores]:
    """Join the scores of complex prompts to 3-in-1, if there are scorers of all three parts."""
    parts, prompts = parts_of(scorers, units)
    if not parts:
        return {}
    seeds = list(dict.fromkeys(unit.seed for unit in units))
    attribute, spatial, clip = (scores[parts[part]] for part in PART_NAMES)
    name = f"3_in_1[{parts['attribute']}, {parts['spatial']}, {parts['clip']}]"
    return {name: three_in_one(prompts, seeds, attribute, spatial, clip)}


def shared_categories(one: Sequence[str], other: Sequence[str]) -> list[str]:
    """Return the categories in both lists. An empty list means all."""
    return [category for category in one or other or ["all"] if not other or category in other]


def require_known(scorers: Sequence[Scoring], prompts: PromptSet) -> None:
    """Raise ValueError where a scorer names a category that the suite does not have, whichever of its prompts are read."""
    known = prompts.known_categories
    for scoring in scorers:
        if unknown := [category for category in scoring.categories if category not in known]:
            raise ValueError(
                f"{scoring.scorer.name} scores the category {unknown[0]!r}, which the prompts of {prompts.name} do not have."
                f"{near(unknown[0], known, count=3)} Their categories are {', '.join(known)}."
            )


def score_units(units: Sequence[Unit], scoring: Scoring, folder: Path, ranks: Ranks, size: int, step: Step) -> None:
    """Score this rank's unfinished blocks. Each block is one file below ``scores/``, and writes are atomic.

    Raises:
        ValueError: The folder holds scores of another version of the scorer.
    """
    scorer = scoring.scorer
    place = scores_of(folder, scoring)
    place.mkdir(parents=True, exist_ok=True)
    for number, block in blocks([unit for unit in units if scoring.covers(unit)], size):
        if not ranks.owns(number):
            continue
        path = block_path(place, scoring, number)
        if not is_finished(path, scorer):
            scores = score_files(scorer, block, folder)
            rows = [
                {"id": unit.prompt.id, "seed": unit.seed, "value": none_if_nan(score.value), "evidence": score.evidence}
                for unit, score in zip(block, scores, strict=True)
            ]
            write_atomically(path, json_bytes({"scorer": scorer.name, "version": scorer.version, "rows": rows}))
        step(len(block))


def read_scores(units: Sequence[Unit], scoring: Scoring, folder: Path, size: int) -> Scores:
    """Read the scores of `score_units` from all ranks."""
    place = scores_of(folder, scoring)
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
            scores[number] = Score.unreadable(unit.file, error)
    scored = scorer.score(list(images.values()), [units[number].prompt for number in images])
    scores |= dict(zip(images, scored, strict=True))
    return [scores[number] for number in range(len(units))]


def is_finished(path: Path, scorer: Scorer) -> bool:
    """Whether a block has its scores. Where an image could not be read it has not: the image may be whole now."""
    rows = read_block(path, scorer)
    return rows is not None and not any(row["evidence"].get("unreadable") for row in rows)


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


def finished_blocks(folder: Path, scoring: Scoring) -> list[Path]:
    """Return the files of all blocks that were scored, by whatever version of the scorer."""
    return list(scores_of(folder, scoring).glob(f"{glob.escape(categories_of(scoring))}-[0-9]*.json"))


def version_of(path: Path) -> str:
    """Return the version of the scorer that scored a block."""
    version: str = json.loads(path.read_text(encoding="utf-8"))["version"]
    return version


def scores_of(folder: Path, scoring: Scoring) -> Path:
    return folder / "scores" / slug(scoring.scorer.name)


def block_path(place: Path, scoring: Scoring, number: int) -> Path:
    """Name the file of a block. A scorer can occur twice, with different categories."""
    return place / f"{categories_of(scoring)}-{number:06d}.json"


def categories_of(scoring: Scoring) -> str:
    return "-".join(scoring.categories) or "all"


def slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._@-]+", "_", name).strip("_")


def none_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else value
