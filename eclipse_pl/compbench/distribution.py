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
    """Compares all generated images with reference images: FID, KID, precision and recall, density and coverage.

    Args:
        extractor: Network that extracts the features. Published FIDs use InceptionFeatures.
        reference: Reference images.
        side: Scale images to this shorter side and crop them to a square. Null changes nothing.
        kid_subset: Images in each subset that KID is averaged over.
        neighbours: Nearest neighbours in the neighbourhood of an image, for precision, recall, density and coverage.
        cache: File for the reference's features. Null extracts them in every run.
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
        """Options that the distances depend on."""
        return {"side": self.side, "kid_subset": self.kid_subset, "neighbours": self.neighbours}

    def require_enough(self, prompts: PromptSet, images: int) -> None:
        """Check, before any image is generated, that there are enough images.

        Raises:
            ValueError: There are too few images.
        """
        with torch.inference_mode():
            self.extractor.load()
            dim = self.extractor.features([Image.new("RGB", (64, 64))]).shape[1]
        self.extractor.close()
        needed = max(dim + 1, self.kid_subset, self.neighbours + 1)
        reference = len(self.reference.load(prompts))
        if min(images, reference) < needed:
            raise ValueError(
                f"FID of {dim} features, KID of {self.kid_subset} and coverage of {self.neighbours} neighbours need at least "
                f"{needed} images on either side: there are {images} generated and {reference} reference images. Use more "
                "prompts or images_per_prompt, a larger reference, or no distribution."
            )

    def measure(self, units: Sequence[Unit], prompts: PromptSet, folder: Path, ranks: Ranks, size: int) -> dict[str, Any]:
        """Return the distances on the first rank. All ranks must call it: each extracts the features of its blocks."""
        parts = [
            extract({unit.file: folder / unit.file for unit in block}, self.extractor, self.side, size)[0]
            for number, block in blocks(units, size)
            if ranks.owns(number)
        ]
        generated = gather_features(joined(parts))
        distances: dict[str, Any] = {}
        if ranks.is_first:
            images = self.reference.load(prompts)
            cache = None if self.cache is None else Path(self.cache)
            reference = reference_features(cache, images, self.extractor, self.side)
            distances = {
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
        return distances


def joined(parts: Sequence[Features]) -> Features:
    if not parts:
        return Features(torch.zeros(0, 0), (), "", "")
    values = torch.cat([part.values for part in parts])
    return Features(values, tuple(name for part in parts for name in part.names), parts[0].extractor, parts[0].preparation)
