"""Networks that extract features for the comparison of distributions: FID's Inception, and any CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from eclipse_pl.model_folder import sha256_of
from eclipse_pl.scorers.clip_towers import ClipTowers
from eclipse_pl.scorers.inception import fid_inception
from eclipse_pl.scorers.network import ScorerNetwork


class FeatureExtractor(ScorerNetwork):
    """A network that extracts features of images. Its module reads (images, 3, height, width) uint8."""

    def features(self, images: Sequence[Image.Image]) -> Float[Tensor, "images dim"]:
        """Return float32 features of RGB images of one size."""
        pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
        return self.model(pixels.permute(0, 3, 1, 2).to(self.device)).float()


class InceptionFeatures(FeatureExtractor):
    """FID's own extractor.

    Args:
        weights: Local file of its weights (see `fid_inception`).
        device: ``auto`` takes a GPU where there is one.
    """

    name = "inception-v3-2015"

    def __init__(self, weights: str, device: str = "auto") -> None:
        super().__init__(device)
        self.weights = weights

    @property
    def version(self) -> str:
        if not Path(self.weights).is_file():
            raise ValueError(f"There is no file {self.weights} with the weights of FID's Inception-v3.")
        return f"{self.name} sha256-{sha256_of(Path(self.weights))}"

    def build(self) -> Any:
        return fid_inception(self.weights)


class ClipFeatures(FeatureExtractor):
    """The raw image embeddings of a CLIP. Images of the world need the world's CLIP."""

    def __init__(self, clip: ClipTowers) -> None:
        super().__init__(str(clip.device))
        self.clip = clip

    @property
    def name(self) -> str:
        return self.clip.name

    @property
    def version(self) -> str:
        return self.clip.version

    def build(self) -> Any:
        return self.clip.model

    def features(self, images: Sequence[Image.Image]) -> Float[Tensor, "images dim"]:
        return self.clip.embed_images(images)

    def close(self) -> None:
        super().close()
        self.clip.close()
