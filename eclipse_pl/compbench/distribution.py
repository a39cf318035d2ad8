from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from eclipse_pl.compbench.ranks import Ranks
from eclipse_pl.compbench.reference_images import ReferenceImages
from eclipse_pl.compbench.unit import Unit, blocks
from eclipse_pl.prompts.prompt import PromptSet
from eclipse_pl.scorers.distribution import coverage, fid, kid
from eclipse_pl.scorers.feature_extractors import FeatureExtractor
from eclipse_pl.scorers.features import Features, extract, gather_features, reference_features


class Distribution:
    """All generated images together against reference images: FID, KID, precision and recall, density and coverage.

    Args:
        extractor: whose features are compared. FID as published: InceptionFeatures.
        reference: what the images should look like.
        side: images are scaled to this shorter side and cut to a square; null takes them as they are.
        kid_subset: images in each of the subsets that KID is averaged over.
        neighbours: how many nearest neighbours make the neighbourhood of an image, for coverage and the like.
        cache: file for the reference's features; null extracts them anew each time.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        reference: ReferenceImages,
        side: int | None = None,
        kid_subset: int = 100,
        neighbours: int = 5,
        cache: str | None = None,
    ) -> None:
        self.extractor, self.reference, self.side = extractor, reference, side
        self.kid_subset, self.neighbours, self.cache = kid_subset, neighbours, cache

    @property
    def identity(self) -> dict[str, Any]:
        """What a distance depends on, beside the images."""
        return {"side": self.side, "kid_subset": self.kid_subset, "neighbours": self.neighbours}

    def require_enough(self, prompts: PromptSet, images: int) -> None:
        """Raise ValueError, before anything is generated, where so few images have no distance."""
        with torch.inference_mode():
            self.extractor.load()
            dim = self.extractor.features([Image.new("RGB", (64, 64))]).shape[1]
        self.extractor.close()
        needed = max(dim + 1, self.kid_subset, self.neighbours + 1)
        reference = len(self.reference.load(prompts))
        if min(images, reference) < needed:
            raise ValueError(
                f"FID of {dim} features, KID of {self.kid_subset} and coverage of {self.neighbours} neighbours need {needed} "
                f"images at least, and there are {images}, and {reference} to compare them with. Take more prompts or "
                "images_per_prompt, a larger reference, or no distribution."
            )

    def measure(self, units: Sequence[Unit], prompts: PromptSet, folder: Path, ranks: Ranks, size: int) -> dict[str, Any]:
        """The distances. A collective: every rank extracts its blocks, and every rank gets all features."""
        parts = [
            extract({unit.file: folder / unit.file for unit in block}, self.extractor, self.side, size)[0]
            for number, block in blocks(units, size)
            if ranks.owns(number)
        ]
        generated = gather_features(joined(parts))
        told: dict[str, Any] = {}
        if ranks.is_first:
            images = self.reference.load(prompts)
            cache = None if self.cache is None else Path(self.cache)
            reference = reference_features(cache, images, self.extractor, self.side)
            told = {
                "fid": fid(reference, generated),
                "kid": list(kid(reference, generated, subset_size=self.kid_subset)),
                **asdict(coverage(reference, generated, self.neighbours)),
                "protocol": {
                    **self.identity,
                    "extractor": generated.extractor,
                    "images": len(generated),
                    "reference": {"images": len(reference), "sha256": reference.source},
                },
            }
        self.extractor.close()
        return told


def joined(parts: Sequence[Features]) -> Features:
    if not parts:
        return Features(torch.zeros(0, 0), (), "", "")
    values = torch.cat([part.values for part in parts])
    return Features(values, tuple(name for part in parts for name in part.names), parts[0].extractor, parts[0].preparation)
