"""ImageVariationsDecoder and FluxAdapterDecoder on tiny pipelines, saved and loaded as published ones are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eclipse_pl.decoders.flux_adapter import FluxAdapterDecoder
from eclipse_pl.decoders.image_variations import ImageVariationsDecoder
from tests.helpers.pipelines import flux, flux_adapter, image_variations

EMBED = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def variations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_variations(tmp_path_factory.mktemp("variations") / "pipeline")


@pytest.fixture(scope="module")
def flux_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("flux")
    flux(place / "pipeline")
    flux_adapter(place / "adapter" / "ip_adapter.safetensors")
    return place


def of_variations(folder: Path, **options: Any) -> ImageVariationsDecoder:
    options = {"space": "tiny", "steps": 2, "device": "cpu", "batch_size": 3, **options}
    return ImageVariationsDecoder(str(folder), **options)


def of_flux(place: Path, **options: Any) -> FluxAdapterDecoder:
    options = {"space": "tiny", "steps": 2, "size": 16, "device": "cpu", "batch_size": 3, **options}
    return FluxAdapterDecoder(str(place / "pipeline"), str(place / "adapter"), **options)


def same(one: Any, other: Any) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other))


def require_own_images(decoder: Any) -> None:
    """Each image of a batch is that of its embedding and seed alone, and guidance leads away from zeros or what is given."""
    images = decoder.decode(EMBED)
    assert decoder.dim == 12 and [image.size for image in images] == [(16, 16)] * 3
    assert all(same(decoder.decode(EMBED[i : i + 1], seeds=[i])[0], images[i]) for i in range(3))
    assert not same(decoder.decode(EMBED[1:2], seeds=[0])[0], images[0])
    assert not same(decoder.decode(EMBED[:1], seeds=[1])[0], images[0])
    assert all(map(same, decoder.decode(EMBED, negative_embed=torch.zeros(3, 12)), images))
    assert not any(map(same, decoder.decode(EMBED, negative_embed=EMBED.roll(1, 0)), images))


@pytest.mark.long
def test_variations_depend_on_their_embedding_alone(variations: Path) -> None:
    require_own_images(of_variations(variations))
    assert not same(of_variations(variations, guidance=1.0).decode(EMBED)[0], of_variations(variations).decode(EMBED)[0])


@pytest.mark.long
def test_variations_are_those_of_the_pipeline(variations: Path) -> None:
    """The pipeline encodes an image; the decoder gets the embedding of the same image."""
    from diffusers import StableDiffusionImageVariationPipeline

    pipeline = StableDiffusionImageVariationPipeline.from_pretrained(variations, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    pixels = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    generators = [torch.Generator().manual_seed(seed) for seed in range(2)]
    theirs = pipeline(pixels, num_inference_steps=2, guidance_scale=3.0, generator=generators).images
    embeds = pipeline.image_encoder(pixels).image_embeds.detach()
    assert all(map(same, of_variations(variations, batch_size=2).decode(embeds), theirs))


@pytest.mark.long
def test_flux_depends_on_its_embedding_alone(flux_place: Path) -> None:
    decoder = of_flux(flux_place)
    require_own_images(decoder)
    pipeline = decoder._pipeline
    ours = decoder.decode(EMBED)
    del pipeline.prepare_ip_adapter_image_embeds  # the pipeline's own mixes the embeddings of a batch, or fails
    try:
        theirs = decoder.generate(pipeline, EMBED, [""] * 3, [torch.Generator().manual_seed(i) for i in range(3)], None)
    except RuntimeError:
        return
    assert not any(map(same, theirs, ours))


@pytest.mark.long
def test_flux_is_the_stock_pipeline_for_one_embedding(flux_place: Path) -> None:
    from diffusers import FluxPipeline

    pipeline = FluxPipeline.from_pretrained(flux_place / "pipeline")
    pipeline.set_progress_bar_config(disable=True)
    place, none = str(flux_place / "adapter"), {"image_encoder_pretrained_model_name_or_path": None}
    pipeline.load_ip_adapter(place, "ip_adapter.safetensors", **none)
    pipeline.set_ip_adapter_scale(0.7)
    (theirs,) = pipeline(
        prompt="",
        negative_prompt="",
        ip_adapter_image_embeds=[EMBED[:1, None]],
        negative_ip_adapter_image_embeds=[torch.zeros(1, 1, 12)],
        num_inference_steps=2,
        true_cfg_scale=4.0,
        guidance_scale=3.5,
        height=16,
        width=16,
        generator=torch.Generator().manual_seed(5),
    ).images
    assert same(of_flux(flux_place, scale=0.7, batch_size=1).decode(EMBED[:1], seeds=[5])[0], theirs)
    assert not same(of_flux(flux_place, batch_size=1).decode(EMBED[:1], seeds=[5])[0], theirs)


def test_bad_options(variations: Path, flux_place: Path) -> None:
    with pytest.raises(ValueError, match=r"size 20 .* multiple of 8"):
        of_variations(variations, size=20)
    with pytest.raises(ValueError, match=r"size 24 .* multiple of 16"):
        of_flux(flux_place, size=24)
    with pytest.raises(ValueError, match="attention_slicing is not for FLUX"):
        of_flux(flux_place, attention_slicing=True)
    with pytest.raises(ValueError, match="needs a FluxPipeline"):
        FluxAdapterDecoder(str(variations), str(flux_place / "adapter"), device="cpu")


def test_an_adapter_of_another_transformer(flux_place: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(flux_place / "adapter" / "ip_adapter.safetensors")
    save_file({name: one for name, one in tensors.items() if "double_blocks.1" not in name}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"has 1 layers that read tokens 32 wide, and the transformer of .* has 2"):
        FluxAdapterDecoder(str(flux_place / "pipeline"), str(tmp_path), "a.safetensors", device="cpu")
