"""Calibration: can a scorer tell true captions of real images from captions of other images?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from eclipse_pl.compbench.compbench import CompBench
from eclipse_pl.compbench.distribution import Measured
from eclipse_pl.compbench.scorecard import Card, read_rows, write_card
from eclipse_pl.compbench.scoring import Scoring, none_if_nan
from eclipse_pl.compbench.true_images import SWAPPED, TrueImages
from eclipse_pl.compbench.unit import Unit, units_of
from eclipse_pl.intervals import Estimate, rate_interval
from eclipse_pl.prompts.prompt import Prompt, PromptSet
from eclipse_pl.prompts.source import PromptSource
from eclipse_pl.scorers.auc import auc

TELLS = "tells true captions from swapped ones"
CONFUSES = "prefers swapped captions"
UNKNOWN = "cannot tell them apart with these images"
NO_CAPTION = "its rules apply to no caption"
NO_REFERENCE = "it compares with reference images, which captions do not have"


class SwappedCaptions(PromptSource):
    """Every caption twice: with its own image, and with another image of the same kind.

    Captions are of one kind where they have the same category, and both or neither name a relation, counted objects and noun
    phrases: a scorer's rules then apply to both or to neither. A caption without another of its kind is left out.

    Args:
        true_images: The images and their captions, with the seed of the swaps.
    """

    def __init__(self, true_images: TrueImages) -> None:
        self.true_images = true_images

    def load(self) -> PromptSet:
        found = self.true_images.captions()
        kinds: dict[tuple[Any, ...], list[Prompt]] = {}
        for prompt in found:
            kind = (prompt.category, prompt.relation is None, bool(prompt.required), bool(prompt.phrases))
            kinds.setdefault(kind, []).append(prompt)
        true: list[Prompt] = []
        swapped: list[Prompt] = []
        for of_kind in kinds.values():
            drawn = sorted(of_kind, key=lambda prompt: sha256(f"{self.true_images.seed} {prompt.id}".encode()).hexdigest())
            if len(drawn) < 2:
                continue
            for prompt, other in zip(drawn, [*drawn[1:], drawn[0]], strict=True):
                true.append(replace(prompt, subset="true"))
                swapped.append(replace(other, id=prompt.id + SWAPPED, subset="swapped"))
        return PromptSet(f"{found.name}, calibration", (*true, *swapped), found.parser)


@dataclass
class Applicable(Scoring):
    """A scorer of the captions that its rules apply to, whatever their category."""

    def covers(self, unit: Unit) -> bool:
        return self.scorer.covers(unit.prompt) and self.scorer.missing(unit.prompt) is None


class Calibration(CompBench):
    """Scores real images with their captions and with swapped ones, by the scorers of a protocol.

    Of the protocol's scorers with one name the first is calibrated, and those that need reference images are left out. Its
    prompts, categories, images per prompt and distribution have no part in it.

    Args:
        protocol: The scorers, and the number of images that they score together.
        true_images: The images and their captions, with the seed of the swaps.
    """

    def __init__(self, protocol: CompBench, true_images: TrueImages) -> None:
        by_name: dict[str, Scoring] = {}
        for scoring in protocol.scorers:
            by_name.setdefault(scoring.scorer.name, Applicable(scoring.scorer))
        scorers = [one for one in by_name.values() if not one.scorer.needs_reference]
        self.idle = {name: NO_REFERENCE for name, one in by_name.items() if one.scorer.needs_reference}
        if not scorers:
            raise ValueError(
                f"{', '.join(self.idle)} compare with reference images, and a calibration has captions alone. Name a scorer "
                "that reads them."
            )
        super().__init__(SwappedCaptions(true_images), scorers, 1, protocol.seed, protocol.block)

    def units(self) -> tuple[PromptSet, list[Unit]]:
        """List every image twice, once with each caption, and leave out the scorers whose rules apply to no caption.

        Raises:
            ValueError: A file is missing or damaged, or no scorer's rules apply to a caption.
        """
        prompts = self.source.load()
        units = units_of(prompts, 1, self.seed)
        files = {unit.prompt.id: unit.file for unit in units}
        units = [replace(unit, file=files[unit.prompt.id.removesuffix(SWAPPED)]) for unit in units]
        self.idle |= {one.scorer.name: NO_CAPTION for one in self.scorers if not any(map(one.covers, units))}
        self.scorers = [one for one in self.scorers if any(map(one.covers, units))]
        if not self.scorers:
            without = [name for name, reason in self.idle.items() if reason == NO_CAPTION]
            raise ValueError(
                f"The rules of {', '.join(without)} apply to none of the {len(prompts) // 2} captions. Take "
                "more images, or other scorers."
            )
        return prompts, units

    def _finish(self, folder: Path, units: Sequence[Unit], protocol: dict[str, Any], measured: Sequence[Measured]) -> Card:
        card = super()._finish(folder, units, protocol, measured)
        rows = read_rows(folder / "rows.jsonl")
        card["calibration"] = {
            **{scoring.scorer.name: separation(rows, scoring.scorer.name) for scoring in self.scorers},
            **{name: {"images": 0, "verdict": reason} for name, reason in self.idle.items()},
        }
        write_card(folder / "scorecard.json", card)
        return card


def separation(rows: Sequence[dict[str, Any]], scorer: str) -> dict[str, Any]:
    """Return how well a scorer separates both captions of its images, with the verdict. Images that failed are left out.

    ``auc`` asks for one threshold that serves all images, ``own_caption_wins`` only for the order of one image's captions.
    """
    scores = {row["id"]: row["scores"][scorer]["value"] for row in rows if scorer in row["scores"]}
    pairs = [(value, scores.get(name + SWAPPED)) for name, value in scores.items() if not name.endswith(SWAPPED)]
    good = [pair for pair in pairs if None not in pair]
    result: dict[str, Any] = {"images": len(good), "failed": len(pairs) - len(good)}
    if not good:
        return {**result, "verdict": "no image could be scored"}
    own, other = np.array(good, dtype=float).T
    area = auc(own, other)
    wins = np.where(own == other, 0.5, own > other)
    verdict = TELLS if area.low > 0.5 else CONFUSES if area.high < 0.5 else UNKNOWN
    return {
        "auc": as_json(area),
        "own_caption_wins": as_json(rate_interval(wins.astype(float), np.arange(len(good)))),
        **result,
        "verdict": verdict,
    }


def as_json(estimate: Estimate) -> dict[str, Any]:
    bounds = {part: none_if_nan(getattr(estimate, part)) for part in ("mean", "low", "high")}
    return {**bounds, "interval": estimate.method}
