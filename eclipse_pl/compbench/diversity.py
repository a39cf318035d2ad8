"""Diversity: how much the images of one prompt differ from seed to seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eclipse_pl.compbench.distribution import Distribution, Measured
from eclipse_pl.compbench.ranks import Ranks
from eclipse_pl.compbench.unit import Unit
from eclipse_pl.prompts.prompt import PromptSet
from eclipse_pl.scorers.diversity import DISTANCE, VENDI, distances_to_others, vendi
from eclipse_pl.scorers.feature_extractors import FeatureExtractor
from eclipse_pl.scorers.features import Features
from eclipse_pl.scorers.scorer import NOT_A_NUMBER, Score, Scores


class Diversity(Distribution):
    """Mean pairwise distance, 1 - cosine, of the images of each prompt, and their Vendi score.

    Both stand among the scores, with intervals over prompts. The value of an image is its mean distance to the other images
    of its prompt. Neither high nor low is good. The images of the upper bound differ by the decoder's noise alone.

    Args:
        extractor: Network that extracts the features: ``Dinov2Features``, or the CLIP of a space by ``ClipFeatures``.
    """

    def __init__(self, extractor: FeatureExtractor) -> None:
        super().__init__(extractor)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{measure}[{self.extractor.name}]" for measure in (DISTANCE, VENDI))

    def require_enough(self, prompts: PromptSet, images_per_prompt: int) -> None:
        if images_per_prompt < 2:
            raise ValueError(
                f"Diversity compares the images of one prompt, and images_per_prompt is {images_per_prompt}: set it to 2 or "
                "more, or leave Diversity out of the distribution."
            )
        self.extractor.require_ready()

    def measure(self, units: Sequence[Unit], prompts: PromptSet, folder: Path, ranks: Ranks, size: int) -> Measured:
        features = self.features(units, folder, ranks, size)
        self.extractor.close()
        if not ranks.is_first:
            return Measured()
        scores = dict(zip(self.names, scores_of(units, features), strict=True))
        return Measured(scores=scores, version=self.extractor.version)


def scores_of(units: Sequence[Unit], features: Features) -> tuple[Scores, Scores]:
    """Return for each image its mean distance to the others of its prompt, and the Vendi score of the prompt."""
    rows = {name: row for row, name in enumerate(features.names)}
    of_prompts: dict[str, list[Unit]] = {}
    distances: Scores = {}
    numbers: Scores = {}
    for unit in units:
        if unit.file in rows:
            of_prompts.setdefault(unit.prompt.id, []).append(unit)
        else:
            distances[unit.key] = numbers[unit.key] = Score.failed(f"{unit.file} cannot be read, or {NOT_A_NUMBER}.")
    for of_prompt in of_prompts.values():
        if len(of_prompt) < 2:
            failed = Score.failed(f"{of_prompt[0].file} is the only readable image of its prompt.")
            distances[of_prompt[0].key] = numbers[of_prompt[0].key] = failed
            continue
        values = features.values[[rows[unit.file] for unit in of_prompt]]
        evidence = {"images": len(of_prompt)}
        effective = Score(vendi(values), evidence)
        for unit, distance in zip(of_prompt, distances_to_others(values).tolist(), strict=True):
            distances[unit.key], numbers[unit.key] = Score(distance, evidence), effective
    return distances, numbers
