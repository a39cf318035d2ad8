"""Distribution: a measure of many generated images together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from eclipse_pl.compbench.ranks import Ranks
from eclipse_pl.compbench.unit import Unit, blocks
from eclipse_pl.prompts.prompt import PromptSet
from eclipse_pl.scorers.feature_extractors import FeatureExtractor
from eclipse_pl.scorers.features import Features, extract, gather_features
from eclipse_pl.scorers.scorer import Scores


@dataclass(frozen=True)
class Measured:
    """What a measure of the distribution adds to the scorecard."""

    numbers: dict[str, float | list[float]] = field(default_factory=dict)
    """Numbers of all images together."""
    protocol: dict[str, Any] = field(default_factory=dict)
    """What those numbers depend on. Numbers of different protocols are not compared."""
    scores: dict[str, Scores] = field(default_factory=dict)
    """Scores of each image by name, as a scorer has them."""
    version: str = ""
    """Version of those scores."""


class Distribution(ABC):
    """Measures generated images together: their distances to reference images, or the diversity of each prompt's.

    Args:
        extractor: Network that extracts the features.
        side: Scale images to this shorter side and crop them to a square. Null changes nothing.
    """

    def __init__(self, extractor: FeatureExtractor, side: int | None = None) -> None:
        self.extractor, self.side = extractor, side

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of its numbers or scores. The first names its protocol."""

    @abstractmethod
    def require_enough(self, prompts: PromptSet, images_per_prompt: int) -> None:
        """Check, before any image is generated, that there are enough images.

        Raises:
            ValueError: There are too few images, or the extractor's files are wrong.
        """

    @abstractmethod
    def measure(self, units: Sequence[Unit], prompts: PromptSet, folder: Path, ranks: Ranks, size: int) -> Measured:
        """Return the measure on the first rank. All ranks must call it: each extracts the features of its blocks."""

    def features(self, units: Sequence[Unit], folder: Path, ranks: Ranks, size: int) -> Features:
        """Return the features of all readable images on every rank. Their names are those of the files."""
        parts = [
            extract({unit.file: folder / unit.file for unit in block}, self.extractor, self.side, size)[0]
            for number, block in blocks(units, size)
            if ranks.owns(number)
        ]
        return gather_features(joined(parts))


def joined(parts: Sequence[Features]) -> Features:
    """Join features of one extractor. Parts without images are left out."""
    found = [part for part in parts if len(part)] or list(parts[:1])
    if not found:
        return Features(torch.zeros(0, 0), (), "", "")
    values = torch.cat([part.values for part in found])
    return Features(values, tuple(name for part in found for name in part.names), found[0].extractor, found[0].preparation)
