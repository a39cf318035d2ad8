"""Extractors of CMMD, FD-DINOv2 and DINO: their recipes against the reference steps, on real images of several shapes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from eclipse_pl.scorers.distribution import cmmd
from eclipse_pl.scorers.feature_extractors import CmmdFeatures, DinoFeatures, Dinov2Features, RecipeFeatures
from eclipse_pl.scorers.features import extract
from tests.helpers.real_data import RealData
from tests.helpers.tiny_scorers import tiny_clip, tiny_clip_vision, tiny_dino, tiny_dinov2, tiny_image

pytestmark = pytest.mark.long

Recipe = tuple[type[RecipeFeatures], Callable[[Path], Path], Callable[[Image.Image], Tensor]]


def normalised(image: Image.Image, means: list[float], deviations: list[float]) -> Tensor:
    """Colour by colour."""
    colours = np.asarray(image, dtype=np.float32) / 255
    return torch.stack([torch.tensor((colours[..., i] - means[i]) / deviations[i]) for i in range(3)])


def cmmd_steps(image: Image.Image) -> Tensor:
    """Its own code: the middle square, resized by Pillow, then resized again by torch, to the same size."""
    colours, side = np.asarray(image), min(image.size)
    top, left = (colours.shape[0] - side) // 2, (colours.shape[1] - side) // 2
    square = Image.fromarray(colours[top : top + side, left : left + side])
    pixels = normalised(
        square.resize((48, 48), Image.Resampling.BICUBIC),
        [0.48145466, 0.4578275, 0.40821073],
        [0.26862954, 0.26130258, 0.27577711],
    )
    return torch.nn.functional.interpolate(pixels[None], (48, 48), mode="bicubic")[0]


def torchvision_steps(size: int | tuple[int, int]) -> Callable[[Image.Image], Tensor]:
    """Resized to ``size``; a shorter side of 256 is cropped."""

    def run(image: Image.Image) -> Tensor:
        from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

        crop = [CenterCrop(224)] if size == 256 else []
        resize = Resize(size, interpolation=InterpolationMode.BICUBIC)
        return Compose([resize, *crop, ToTensor(), Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])(image)

    return run


RECIPES: list[Recipe] = [
    (CmmdFeatures, tiny_clip_vision, cmmd_steps),
    (Dinov2Features, tiny_dinov2, torchvision_steps((224, 224))),
    (DinoFeatures, tiny_dino, torchvision_steps(256)),
]


def output(extractor: RecipeFeatures, pixels: Tensor) -> Tensor:
    """What transformers itself calls the features."""
    with torch.no_grad():
        found = extractor.model(pixel_values=pixels)
    if hasattr(found, "image_embeds"):
        return found.image_embeds
    return found.last_hidden_state[:, 0] if found.pooler_output is None else found.pooler_output


@pytest.fixture(params=["ours", "real"])
def files(request: pytest.FixtureRequest, tmp_path: Path, real_data: RealData) -> list[Path]:
    """Images of several shapes: noise where there are no photographs."""
    if request.param == "real":
        return sorted((real_data("coco") / "val2017").glob("*.jpg"))[:10]
    found = [tmp_path / f"{number}.png" for number in range(3)]
    for number, (file, size) in enumerate(zip(found, ((60, 51), (291, 260), (231, 400)), strict=True)):
        tiny_image(number, size).save(file)
    return found


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe[0].__name__)
def test_recipe_is_the_reference(recipe: Recipe, tmp_path: Path, files: list[Path]) -> None:
    kind, write, steps = recipe
    extractor = kind(str(write(tmp_path / "model")), device="cpu")
    images = [Image.open(file).convert("RGB") for file in files]
    assert len(images) > 2 and any(image.width != image.height for image in images)
    expected = torch.stack([steps(image) for image in images])
    torch.testing.assert_close(extractor.pixels(images), expected, atol=1e-5, rtol=0)
    features, unreadable = extract({file.name: file for file in files}, extractor, batch_size=3)
    assert not unreadable
    torch.testing.assert_close(features.values, output(extractor, expected), atol=1e-5, rtol=1e-4)
    assert features.extractor.endswith(kind.recipe) and features.extractor.startswith("model sha256-")


def test_cmmd_through_a_model_is_that_of_its_normalised_image_embeds(tmp_path: Path) -> None:
    extractor = CmmdFeatures(str(tiny_clip_vision(tmp_path / "model")), device="cpu")
    sides = [[tiny_image(seed, (40 + 7 * (seed % 3), 50)) for seed in seeds] for seeds in (range(8), range(20, 26))]
    features = [extract({f"{i:02d}": image for i, image in enumerate(side)}, extractor)[0] for side in sides]
    rows = [torch.nn.functional.normalize(output(extractor, extractor.pixels(side)).double(), dim=1) for side in sides]

    def mean_kernel(one: Tensor, other: Tensor) -> float:
        return float(torch.exp(-torch.cdist(one, other).square() / 200).mean())

    expected = 1000 * (mean_kernel(rows[0], rows[0]) + mean_kernel(rows[1], rows[1]) - 2 * mean_kernel(*rows))
    assert cmmd(*features) == pytest.approx(expected, abs=1e-6, rel=1e-4)


def test_both_towers_serve_as_the_image_tower(tmp_path: Path) -> None:
    """The published weights of CMMD's CLIP are those of a CLIPModel."""
    extractor = CmmdFeatures(str(tiny_clip(tmp_path / "clip")), device="cpu")
    features, _ = extract({"a": tiny_image()}, extractor)
    with torch.no_grad():
        pooled = extractor.model.vision_model(pixel_values=extractor.pixels([tiny_image()])).pooler_output
        torch.testing.assert_close(features.values, extractor.model.visual_projection(pooled), atol=1e-5, rtol=1e-4)
    assert features.values.shape == (1, 16)


def test_a_model_of_another_class_is_refused(tmp_path: Path) -> None:
    dinov2 = tiny_dinov2(tmp_path / "dinov2")
    for kind, wanted in ((CmmdFeatures, "CLIPVisionModelWithProjection or CLIPModel"), (DinoFeatures, "ViTModel")):
        with pytest.raises(ValueError, match=f"dinov2 holds Dinov2Model, and this scorer works with {wanted}"):
            kind(str(dinov2), device="cpu").require_ready()
    with pytest.raises(ValueError, match="dino holds ViTModel, and this scorer works with Dinov2Model"):
        Dinov2Features(str(tiny_dino(tmp_path / "dino")), device="cpu").load()


def test_no_pooler_is_made_up_for_dino(tmp_path: Path) -> None:
    """Published weights of DINO have no pooler, and no random one may stand in its place."""
    extractor = DinoFeatures(str(tiny_dino(tmp_path / "dino")), device="cpu")
    assert extractor.model.pooler is None
    assert extract({"a": tiny_image()}, extractor)[0].values.shape == (1, 16)
