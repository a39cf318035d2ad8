"""IPAdapterDecoder on tiny pipelines and random adapters, saved and loaded as published ones are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from eclipse_pl.decoders.ip_adapter import IPAdapterDecoder
from eclipse_pl.embedding import ClipSpace
from tests.helpers.pipeline_lora import pipeline_lora
from tests.helpers.pipelines import ip_adapter, kandinsky, stable_diffusion_1_5, stable_diffusion_xl

# diffusers' Euler schedulers make arrays of tensors in a way that numpy 2 warns of
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
EMBED = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))
TEXTS = ["a red hat", "a blue hat", "two cats"]
FILES = {"sd15": "models/sd15.safetensors", "sdxl": "sdxl_models/sdxl.safetensors"}
"""The tiny pipeline -> its file in the folder of adapters."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("ip_adapter")
    for name, write in (("sd15", stable_diffusion_1_5), ("sdxl", stable_diffusion_xl)):
        ip_adapter(place / "adapters" / FILES[name], write(place / name))
    return place


def tiny(place: Path, name: str = "sd15", **options: Any) -> IPAdapterDecoder:
    options = {"space": "tiny", "steps": 2, "guidance": 3.0, "device": "cpu", "batch_size": 3, **options}
    options = {"adapter": str(place / "adapters"), "adapter_file": FILES[name], **options}
    return IPAdapterDecoder(str(place / name), **options)


def space(dim: int, name: str = "tiny") -> ClipSpace:
    statistics = {"image_mean": torch.zeros(dim), "image_std": torch.ones(dim)}
    return ClipSpace(
        name=name, dim=dim, text_width=8, context_length=16, encoder="open_clip:tiny:random", normalised=False, **statistics
    )


def same(one: Any, other: Any) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other))


def stock(place: Path, name: str) -> Any:
    """The pipeline of diffusers with the adapter, as its documentation loads it."""
    import diffusers

    kind = {"sd15": diffusers.StableDiffusionPipeline, "sdxl": diffusers.StableDiffusionXLPipeline}[name]
    pipeline = kind.from_pretrained(place / name, use_safetensors=True)
    folder, _, file = FILES[name].partition("/")
    pipeline.load_ip_adapter(str(place / "adapters"), folder, file, image_encoder_folder=None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generated(pipeline: Any, embeds: torch.Tensor, seeds: list[int], guidance: float = 3.0, **options: Any) -> list[Any]:
    pairs = torch.cat([torch.zeros_like(embeds), embeds]) if guidance > 1 else embeds
    options = {"prompt": [""] * len(embeds), "negative_prompt": [""] * len(embeds), **options}
    images: list[Any] = pipeline(
        ip_adapter_image_embeds=[pairs[:, None]],
        num_inference_steps=2,
        guidance_scale=guidance,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        **options,
    ).images
    return images


@pytest.mark.long
@pytest.mark.parametrize("name", FILES)
def test_an_image_of_a_batch_is_the_image_of_its_embedding_alone(place: Path, name: str) -> None:
    with tiny(place, name) as decoder:
        images = decoder.decode(EMBED)
        assert decoder.dim == 12 and [image.size for image in images] == [(16, 16)] * 3
        assert all(same(decoder.decode(EMBED[i : i + 1], seeds=[i])[0], images[i]) for i in range(3))
        assert not same(decoder.decode(EMBED[1:2], seeds=[0])[0], images[0])
        assert not same(decoder.decode(EMBED[:1], seeds=[1])[0], images[0])
        assert same(decoder.decode(EMBED, TEXTS)[0], images[0])  # captions are not read
        # Without our method, the same pipeline mixes the embeddings of a batch (diffusers issue 9813). Should it not do so any
        # more, our method is no longer needed.
        pipeline = decoder._pipeline
        del pipeline.prepare_ip_adapter_image_embeds
        assert not any(map(same, generated(pipeline, EMBED, [0, 1, 2]), images))


@pytest.mark.long
@pytest.mark.parametrize("guidance", [3.0, 1.0])
@pytest.mark.parametrize("name", FILES)
def test_one_embedding_gives_the_image_of_the_stock_pipeline(place: Path, name: str, guidance: float) -> None:
    pipeline = stock(place, name)
    decoder = tiny(place, name, guidance=guidance, batch_size=1)
    (theirs,) = generated(pipeline, EMBED[:1], [5], guidance)
    assert same(decoder.decode(EMBED[:1], seeds=[5])[0], theirs)
    pipeline.set_ip_adapter_scale(0.5)
    (weaker,) = generated(pipeline, EMBED[:1], [5], guidance)
    assert same(tiny(place, name, guidance=guidance, batch_size=1, scale=0.5).decode(EMBED[:1], seeds=[5])[0], weaker)
    assert not same(weaker, theirs)


@pytest.mark.long
def test_a_caption_is_read_where_it_is_asked_for(place: Path) -> None:
    decoder = tiny(place, "sdxl", read_caption=True, batch_size=1)
    images = decoder.decode(EMBED, TEXTS)
    (theirs,) = generated(stock(place, "sdxl"), EMBED[:1], [0], prompt=TEXTS[:1])
    assert same(images[0], theirs) and decoder.reads_caption and decoder.identity["reads_caption"]
    together = tiny(place, "sdxl", read_caption=True).decode(EMBED, TEXTS)
    difference = np.abs(np.asarray(together[2], dtype=int) - np.asarray(images[2], dtype=int))
    assert difference.max() <= 1  # another size of batch takes sums in another order
    plain = tiny(place, "sdxl")
    assert not plain.reads_caption and "reads_caption" not in plain.identity


@pytest.mark.long
def test_guidance_leads_away_from_zeros_or_from_what_is_given(place: Path) -> None:
    decoder = tiny(place)
    default = decoder.decode(EMBED)
    assert all(map(same, default, decoder.decode(EMBED, negative_embed=torch.zeros(3, 12))))
    assert not any(map(same, default, decoder.decode(EMBED, negative_embed=EMBED.flip(0)[[0, 2, 1]])))


@pytest.mark.long
def test_a_lora_and_its_scheduler(place: Path, tmp_path: Path) -> None:
    lora = pipeline_lora(tmp_path / "lora", place / "sd15")
    decoder = tiny(place, guidance=1.0, scheduler="lcm", lora=str(lora), batch_size=1)
    (ours,) = decoder.decode(EMBED[:1], seeds=[0])

    from diffusers import LCMScheduler

    pipeline = stock(place, "sd15")
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    (without,) = generated(pipeline, EMBED[:1], [0], guidance=1.0)
    pipeline.load_lora_weights(lora)
    (theirs,) = generated(pipeline, EMBED[:1], [0], guidance=1.0)
    difference = np.abs(np.asarray(ours, dtype=int) - np.asarray(theirs, dtype=int))
    assert difference.max() <= 1 < np.abs(np.asarray(without, dtype=int) - np.asarray(theirs, dtype=int)).max()
    assert decoder.identity["lora_weights"] and decoder.identity["scheduler"] == "lcm"
    # the noise of a scheduler that draws it is the image's own
    both = tiny(place, guidance=1.0, scheduler="lcm", lora=str(lora), steps=3)
    images = both.decode(EMBED)
    assert same(both.decode(EMBED[1:], seeds=[1, 2])[1], images[2])


def test_a_lora_of_something_else(place: Path, tmp_path: Path) -> None:
    save_file({"unet.nothing.lora_A.weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"The LoRA .* does not fit StableDiffusionPipeline"):
        tiny(place, lora=str(tmp_path)).decode(EMBED)
    (tmp_path / "other.safetensors").write_bytes((tmp_path / "other.safetensors").read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"other.safetensors is damaged .* Fetch it again"):
        tiny(place, lora=str(tmp_path)).decode(EMBED)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"holds no safetensors file. Name a folder"):
        tiny(place, lora=str(tmp_path / "empty")).decode(EMBED)


@pytest.mark.long
def test_size_precision_and_schedulers(place: Path) -> None:
    (image,) = tiny(place, size=24, precision="bfloat16", scheduler="euler").decode(EMBED[:1])
    assert image.size == (24, 24)
    half = tiny(place, "sdxl", precision="float16").decode(EMBED[:2])
    assert all(np.asarray(one).any() for one in half)  # black where the VAE overflows
    (few,) = tiny(place, "sdxl", steps=1, guidance=0.0).decode(EMBED[:1])  # as SDXL Turbo
    assert few.size == (16, 16)
    with pytest.raises(ValueError, match=r"size 20 cannot be generated .* multiple of 8"):
        tiny(place, size=20)
    with pytest.raises(ValueError, match=r"attention_slicing replaces the attention of the adapter"):
        tiny(place, attention_slicing=True)
    with pytest.raises(ValueError, match=r"scale 0.0 is no weight"):
        tiny(place, scale=0.0)


def changed(path: Path, source: Path, **shapes: tuple[int, ...]) -> Path:
    """A copy of an adapter whose projection has other weights."""
    tensors = {name: one for name, one in load_file(source).items() if not name.startswith("image_proj.")}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors | {f"image_proj.{name}": torch.zeros(shape) for name, shape in shapes.items()}, path)
    return path


@pytest.mark.parametrize(
    ("weight", "kind"),
    [
        ("latents", "a plus adapter: it reads the features of all patches"),
        ("proj.3.weight", "a full-face adapter"),
        ("proj.0.weight", "a FaceID adapter: it reads a face recogniser's features"),
        ("perceiver_resampler.proj_in.weight", "a FaceID plus adapter"),
    ],
)
def test_adapters_that_read_other_features(place: Path, tmp_path: Path, weight: str, kind: str) -> None:
    changed(tmp_path / "x.safetensors", place / "adapters" / FILES["sd15"], **{weight: (4, 4), "norm.weight": (4,)})
    with pytest.raises(ValueError, match=f"{kind}.*a prior predicts one embedding. Take a plain adapter"):
        tiny(place, adapter=str(tmp_path), adapter_file="x.safetensors")


def test_files_that_are_no_adapter(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is no safetensors file, .* name models/ip-adapter_sd15.safetensors"):
        tiny(place, adapter_file="models/ip-adapter_sd15.bin")
    with pytest.raises(ValueError, match=r"has no file models/x.safetensors. It has models/sd15.safetensors, sdxl_models/"):
        tiny(place, adapter_file="models/x.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"holds no image-prompt adapter"):
        tiny(place, adapter=str(tmp_path), adapter_file="a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"is damaged"):
        tiny(place, adapter=str(tmp_path), adapter_file="b.safetensors")


def test_an_adapter_of_another_width(place: Path, tmp_path: Path) -> None:
    shapes = {"proj.weight": (4 * 16, 1024), "proj.bias": (64,), "norm.weight": (16,), "norm.bias": (16,)}
    changed(tmp_path / "x.safetensors", place / "adapters" / FILES["sd15"], **shapes)
    sd15 = shutil.copytree(place / "sd15", tmp_path / "sd15")
    decoder = tiny(place, adapter=str(tmp_path), adapter_file="x.safetensors")
    with pytest.raises(ValueError, match=r"weights take embeddings 1024 wide, and the prior belongs to tiny"):
        decoder.require_space(space(1280), "the prior")
    config = json.loads((sd15 / "unet" / "config.json").read_text())
    (sd15 / "unet" / "config.json").write_text(json.dumps(config | {"cross_attention_dim": 768}))
    shapes["proj.weight"] = (4 * 768, 1024)
    changed(tmp_path / "y.safetensors", place / "adapters" / FILES["sd15"], **shapes)
    decoder = IPAdapterDecoder(str(sd15), str(tmp_path), "y.safetensors", "tiny", device="cpu")
    with pytest.raises(
        ValueError, match=r"1024 wide.* h94/IP-Adapter that reads 1280 numbers is models/ip-adapter_sd15_vit-G"
    ):
        decoder.require_space(space(1280), "the prior")
    with pytest.raises(ValueError, match=r"decodes embeddings of tiny, .* another CLIP.* that reads 1280 numbers is models/"):
        decoder.require_space(space(1280, "ViT-bigG-14"), "the prior")
    decoder.require_space(space(1024), "the prior")
    of_hub = IPAdapterDecoder(device="cpu")  # nothing is fetched to say so
    with pytest.raises(ValueError, match=r"another CLIP.* that reads 1024 numbers is sdxl_models/ip-adapter_sdxl_vit-h.s"):
        of_hub.require_space(space(1024, "ViT-H-14"), "the prior")


def test_the_adapter_of_another_pipeline(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"makes tokens 32 wide, and the UNet of .* reads tokens 16 wide"):
        tiny(place, adapter_file=FILES["sdxl"])
    tensors = load_file(place / "adapters" / FILES["sd15"])
    lost = next(name for name in tensors if name.endswith("to_k_ip.weight"))
    save_file({name: one for name, one in tensors.items() if name != lost}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"does not fit the UNet .*it has \d layers, and the UNet \d\)"):
        tiny(place, adapter=str(tmp_path), adapter_file="x.safetensors").decode(EMBED)


@pytest.mark.long
def test_a_pipeline_that_has_an_adapter(place: Path, tmp_path: Path) -> None:
    stock(place, "sd15").save_pretrained(tmp_path / "with")
    with pytest.raises(ValueError, match=r"has an adapter already, and only one embedding goes in"):
        IPAdapterDecoder(str(tmp_path / "with"), str(place / "adapters"), FILES["sd15"], "tiny", device="cpu")


def test_other_pipelines(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is a KandinskyV22Pipeline, and this decoder needs a StableDiffusionPipeline or"):
        IPAdapterDecoder(str(kandinsky(tmp_path / "kandinsky")), str(place / "adapters"), FILES["sd15"], device="cpu")
