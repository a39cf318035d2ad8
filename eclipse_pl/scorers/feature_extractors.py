"""Networks that extract features for the comparison of images: FID's Inception, any CLIP, CMMD's CLIP, DINO and DINOv2."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from eclipse_pl.model_folder import sha256_of
from eclipse_pl.scorers.clip_towers import ClipTowers
from eclipse_pl.scorers.inception import fid_inception
from eclipse_pl.scorers.network import PretrainedNetwork, ScorerNetwork

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BICUBIC = Image.Resampling.BICUBIC


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
        self.weights = str(Path(weights).expanduser())

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


class RecipeFeatures(PretrainedNetwork, FeatureExtractor):
    """A network of transformers whose published recipe prepares the images, so that the processor of its folder is not read.

    Args:
        path: Folder or hub id of the weights.
        **options: Those of PretrainedNetwork.
    """

    reads = ()
    recipe: str
    """Preparation of the images, as the version names it."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __init__(self, path: str, **options: Any) -> None:
        super().__init__(path, **options)

    @property
    def version(self) -> str:
        return f"{super().version}, {self.recipe}"

    @abstractmethod
    def prepare(self, image: Image.Image) -> Image.Image:
        """Resize and crop an RGB image to the network's square."""

    @abstractmethod
    def embed(self, pixels: Float[Tensor, "images 3 side side"]) -> Float[Tensor, "images dim"]:
        """Return the network's features of normalised images."""

    def pixels(self, images: Sequence[Image.Image]) -> Float[Tensor, "images 3 side side"]:
        """Return prepared and normalised images. They may have several sizes."""
        prepared = torch.from_numpy(np.stack([np.asarray(self.prepare(image)) for image in images]))
        mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (self.mean, self.std))
        return (prepared.permute(0, 3, 1, 2).float() / 255 - mean) / std

    def features(self, images: Sequence[Image.Image]) -> Float[Tensor, "images dim"]:
        return self.embed(self.pixels(images).to(self.device, self.precision)).float()


class CmmdFeatures(RecipeFeatures):
    """CMMD's extractor (Jayasumana et al., 2024): image embeddings of a CLIP of ``openai/clip-vit-large-patch14-336``'s kind.

    Its recipe takes the square from the middle of an image, and resizes that to the network's side.
    """

    classes = ("CLIPVisionModelWithProjection", "CLIPModel")
    recipe = "square from the middle, bicubic to the network's side"
    mean, std = CLIP_MEAN, CLIP_STD

    def prepare(self, image: Image.Image) -> Image.Image:
        config = self.model.config
        side = getattr(config, "vision_config", config).image_size  # a CLIPModel has a config for each tower
        length = min(image.size)
        left, top = ((size - length) // 2 for size in image.size)
        return image.crop((left, top, left + length, top + length)).resize((side, side), BICUBIC)

    def embed(self, pixels: Float[Tensor, "images 3 side side"]) -> Float[Tensor, "images dim"]:
        return self.model.visual_projection(self.model.vision_model(pixel_values=pixels).pooler_output)


class Dinov2Features(RecipeFeatures):
    """FD-DINOv2's extractor (Stein et al., 2023): the class token of ``facebook/dinov2-large`` after the last norm.

    Its recipe resizes an image to 224 x 224 pixels without a crop, so it changes the shape of an image that is not square.
    The position embeddings are resized by transformers, which can differ from DINOv2's own code in the last digits.
    """

    classes = ("Dinov2Model",)
    recipe = "bicubic to 224 x 224"

    def prepare(self, image: Image.Image) -> Image.Image:
        return image.resize((224, 224), BICUBIC)

    def embed(self, pixels: Float[Tensor, "images 3 side side"]) -> Float[Tensor, "images dim"]:
        return self.model(pixel_values=pixels).last_hidden_state[:, 0]


class DinoFeatures(RecipeFeatures):
    """DreamBooth's extractor (Ruiz et al., 2023): the class token of DINO's ViT-S/16 (``facebook/dino-vits16``).

    DINO's recipe resizes an image to a shorter side of 256, and takes 224 x 224 pixels from the middle.
    """

    classes = ("ViTModel",)
    parts = MappingProxyType({"add_pooling_layer": False})
    recipe = "bicubic to a shorter side of 256, centre crop of 224"

    def prepare(self, image: Image.Image) -> Image.Image:
        width, height = (256 * size // min(image.size) for size in image.size)
        left, top = round((width - 224) / 2), round((height - 224) / 2)
        return image.resize((width, height), BICUBIC).crop((left, top, left + 224, top + 224))

    def embed(self, pixels: Float[Tensor, "images 3 side side"]) -> Float[Tensor, "images dim"]:
        return self.model(pixel_values=pixels).last_hidden_state[:, 0]
