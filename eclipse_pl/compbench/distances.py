"""Distances of all generated images to reference images: FID and KID, CMMD, FD-DINOv2."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image

from eclipse_pl.compbench.distribution import Distribution, Measured
from eclipse_pl.compbench.ranks import Ranks
from eclipse_pl.compbench.reference_images import ReferenceImages
from eclipse_pl.compbench.unit import Unit
from eclipse_pl.prompts.prompt import PromptSet
from eclipse_pl.scorers.distribution import cmmd, coverage, fid, kid
from eclipse_pl.scorers.feature_extractors import CmmdFeatures, Dinov2Features, FeatureExtractor
from eclipse_pl.scorers.features import Features, kept_features, reference_features
from eclipse_pl.scorers.scorer import NOT_A_NUMBER


class Distances(Distribution):
    """Compares all generated images with reference images.

    They have no interval: one set of images gives one distance.

    Args:
        extractor: Network that extracts the features.
        reference: Reference images.
        side: Scale images to this shorter side and crop them to a square. Null changes nothing.
        cache: File for the reference's features. Null extracts them in every run.
    """

    title: ClassVar[str]
    """Name in errors."""

    def __init__(
        self, extractor: FeatureExtractor, reference: ReferenceImages, side: int | None = None, cache: str | None = None
    ) -> None:
        super().__init__(extractor, side)
        self.reference, self._cache = reference, None if cache is None else Path(cache)

    @property
    def identity(self) -> dict[str, Any]:
        """Options that the distances depend on."""
        return {"side": self.side}

    @abstractmethod
    def demand(self, dim: int) -> tuple[int, str]:
        """Return the number of images that it needs on either side, and the words for what needs them."""

    @abstractmethod
    def numbers(self, reference: Features, generated: Features) -> dict[str, float | list[float]]:
        """Return the distances by `names`."""

    def require_enough(self, prompts: PromptSet, images_per_prompt: int) -> None:
        with torch.inference_mode():
            self.extractor.load()
            dim = self.extractor.features([Image.new("RGB", (64, 64))]).shape[1]
        self.extractor.close()
        needed, words = self.demand(dim)
        images, reference = len(prompts) * images_per_prompt, self.reference.load(prompts)
        if min(images, len(reference)) < needed:
            raise ValueError(
                f"{words} at least {needed} images on either side: there are {images} generated and {len(reference)} "
                "reference images. Use more prompts or images_per_prompt, a larger reference, or no distribution."
            )
        kept_features(self._cache, reference, self.extractor, self.side)

    def measure(self, units: Sequence[Unit], prompts: PromptSet, folder: Path, ranks: Ranks, size: int) -> Measured:
        generated = self.features(units, folder, ranks, size)
        if not len(generated):
            raise ValueError(
                f"None of the {len(units)} images in {folder} can be read, so {self.title} has no image at all. Or "
                f"{NOT_A_NUMBER}."
            )
        measured = Measured()
        if ranks.is_first:
            images = self.reference.load(prompts)
            reference = reference_features(self._cache, images, self.extractor, self.side)
            protocol = {
                **self.identity,
                "extractor": generated.extractor,
                "images": len(generated),
                "reference": {"images": len(reference), "sha256": reference.source},
            }
            measured = Measured(self.numbers(reference, generated), protocol)
        self.extractor.close()
        return measured


class Fid(Distances):
    """FID and KID, precision and recall, density and coverage.

    Args:
        extractor: Network that extracts the features. Published FIDs use InceptionFeatures.
        reference: Reference images.
        side: Scale images to this shorter side and crop them to a square. Null changes nothing.
        kid_subset: Images in each subset that KID is averaged over.
        neighbours: Nearest neighbours in the neighbourhood of an image, for precision, recall, density and coverage.
        cache: File for the reference's features. Null extracts them in every run.
    """

    title = "FID"
    names = ("fid", "kid", "precision", "recall", "density", "coverage")

    def __init__(
        self,
        extractor: FeatureExtractor,
        reference: ReferenceImages,
        side: int | None = None,
        kid_subset: int = 100,
        neighbours: int = 5,
        cache: str | None = None,
    ) -> None:
        super().__init__(extractor, reference, side, cache)
        self.kid_subset, self.neighbours = kid_subset, neighbours

    @property
    def identity(self) -> dict[str, Any]:
        return {"side": self.side, "kid_subset": self.kid_subset, "neighbours": self.neighbours}

    def demand(self, dim: int) -> tuple[int, str]:
        words = f"FID of {dim} features, KID of {self.kid_subset} and coverage of {self.neighbours} neighbours need"
        return max(dim + 1, self.kid_subset, self.neighbours + 1), words

    def numbers(self, reference: Features, generated: Features) -> dict[str, float | list[float]]:
        return {
            "fid": fid(reference, generated),
            "kid": list(kid(reference, generated, subset_size=self.kid_subset)),
            **asdict(coverage(reference, generated, self.neighbours)),
        }


class RecipeDistance(Distances):
    """A distance whose recipe names the extractor and prepares the images.

    Args:
        extractor: Its extractor.
        reference: Reference images.
        cache: File for the reference's features. Null extracts them in every run.
    """

    recipe: ClassVar[type[FeatureExtractor]]

    def __init__(self, extractor: FeatureExtractor, reference: ReferenceImages, cache: str | None = None) -> None:
        if not isinstance(extractor, self.recipe):
            raise ValueError(
                f"{self.title} needs {self.recipe.__name__}, and its extractor is {type(extractor).__name__}: in other "
                "features the number would be another one. Use Fid for any extractor."
            )
        super().__init__(extractor, reference, None, cache)


class Cmmd(RecipeDistance):
    """CMMD (Jayasumana et al., 2024), in the features of ``CmmdFeatures``; it includes the published factor of 1000.

    It is biased by the number of images. Published values of MSCOCO are of 30,000 images.
    """

    names = ("cmmd",)
    title, recipe = "CMMD", CmmdFeatures

    def demand(self, dim: int) -> tuple[int, str]:
        return 2, "CMMD needs"

    def numbers(self, reference: Features, generated: Features) -> dict[str, float | list[float]]:
        return {"cmmd": cmmd(reference, generated)}


class FdDinov2(RecipeDistance):
    """FD-DINOv2 (Stein et al., 2023), in the features of ``Dinov2Features``.

    It is biased by the number of images, as FID is. At least 10,000 are usual.
    """

    names = ("fd_dinov2",)
    title, recipe = "FD-DINOv2", Dinov2Features

    def demand(self, dim: int) -> tuple[int, str]:
        return dim + 1, f"FD-DINOv2 of {dim} features needs"

    def numbers(self, reference: Features, generated: Features) -> dict[str, float | list[float]]:
        return {"fd_dinov2": fid(reference, generated, self.title)}
