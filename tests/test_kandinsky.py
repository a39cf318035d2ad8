"""KandinskyDecoder on tiny real pipelines, saved and loaded as published ones are."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from eclipse_pl.decoders import pipeline_folder
from eclipse_pl.decoders.kandinsky import KandinskyDecoder
from eclipse_pl.embedding import ClipSpace
from tests.helpers.pipelines import kandinsky

SPACE = ClipSpace(
    name="tiny",
    dim=12,
    text_width=8,
    context_length=16,
    encoder="open_clip:tiny:random",
    normalised=False,
    image_mean=torch.zeros(12),
    image_std=torch.ones(12),
    zero_image=torch.linspace(-1, 1, 12),
)
EMBED = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
TEXTS = ["one", "two", "three", "four", "five"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kandinsky(tmp_path_factory.mktemp("kandinsky") / "decoder")


def tiny(folder: Path, **options: Any) -> KandinskyDecoder:
    options = {"space": "tiny", "steps": 2, "guidance": 2.0, "device": "cpu", "batch_size": 2, **options}
    decoder = KandinskyDecoder(str(folder), **options)
    decoder.require_space(SPACE, "the prior")
    return decoder


def same(one: Any, other: Any) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.long
def test_an_image_depends_on_its_embedding_and_seed_alone(folder: Path) -> None:
    decoder = tiny(folder)
    images = decoder.decode(EMBED, TEXTS, range(5))
    assert [image.size for image in images] == [(32, 32)] * 5
    order = [3, 0, 4, 2, 1]
    shuffled = decoder.decode(EMBED[order], [TEXTS[i] for i in order], order)
    assert all(same(shuffled[k], images[i]) for k, i in enumerate(order))  # to the last bit: in any order ...
    rank = decoder.decode(EMBED[1::2], TEXTS[1::2], [1, 3])
    assert all(same(mine, whole) for mine, whole in zip(rank, images[1::2], strict=True))  # ... and on any rank
    assert same(decoder.decode(EMBED[4:], TEXTS[4:], [4])[0], images[4])
    for batch_size in (1, 5):  # other shapes of batch take sums in another order: at most the last of 256 levels differs
        for one, other in zip(tiny(folder, batch_size=batch_size).decode(EMBED, TEXTS, range(5)), images, strict=True):
            assert np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max() <= 1
    assert not same(decoder.decode(EMBED[:1], TEXTS[:1], [1])[0], images[0])  # another seed
    assert not same(decoder.decode(EMBED[1:2], TEXTS[:1], [0])[0], images[0])  # another embedding


@pytest.mark.long
@pytest.mark.parametrize("scheduler", ["ddpm", "own"])
def test_the_noise_of_a_stochastic_scheduler_is_the_images_own(folder: Path, scheduler: str) -> None:
    decoder = tiny(folder, scheduler=scheduler, steps=3)
    images = decoder.decode(EMBED, TEXTS, range(5))
    assert same(decoder.decode(EMBED[3:], TEXTS[3:], [3, 4])[1], images[4])
    assert not same(images[4], tiny(folder, steps=3).decode(EMBED, TEXTS, range(5))[4])


def test_it_is_diffusers_pipeline(folder: Path) -> None:
    from diffusers import DDIMScheduler, KandinskyV22Pipeline

    pipeline = KandinskyV22Pipeline.from_pretrained(folder)
    pipeline.scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, thresholding=True)
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    (reference,) = pipeline(
        EMBED[:2],
        SPACE.zero_image.expand(2, -1),  # type: ignore[union-attr]
        height=32,
        width=32,
        num_inference_steps=2,
        guidance_scale=2.0,
        generator=generators,
        return_dict=False,
    )
    assert all(map(same, tiny(folder).decode(EMBED[:2], TEXTS[:2], [0, 1]), reference))


@pytest.mark.long
def test_guidance_leads_away_from_what_is_given(folder: Path) -> None:
    decoder = tiny(folder)
    default = decoder.decode(EMBED, TEXTS, range(5))
    zero = SPACE.zero_image.expand(5, -1)  # type: ignore[union-attr]
    assert all(map(same, default, decoder.decode(EMBED, TEXTS, range(5), negative_embed=zero)))
    given = decoder.decode(EMBED, TEXTS, range(5), negative_embed=EMBED.flip(0))
    assert not any(map(same, default[:2], given[:2]))
    unguided = tiny(folder, guidance=1.0)
    unguided.zero_image = None  # and then there is nothing to lead away from
    assert not same(unguided.decode(EMBED, TEXTS, range(5))[0], default[0])


def test_no_guidance_without_a_zero_image(folder: Path) -> None:
    decoder = tiny(folder)
    decoder.require_space(replace(SPACE, zero_image=None), "the shards")
    with pytest.raises(ValueError, match=r"needs the embedding of the all-zero image .* set guidance to 1"):
        decoder.decode(EMBED, TEXTS, range(5))


@pytest.mark.long
def test_size_precision_and_slicing(folder: Path) -> None:
    (large,) = tiny(folder, size=48, attention_slicing=True).decode(EMBED[:1], TEXTS[:1], [0])
    assert large.size == (48, 48)
    (half,) = tiny(folder, precision="bfloat16").decode(EMBED[:1], TEXTS[:1], [0])
    (full,) = tiny(folder).decode(EMBED[:1], TEXTS[:1], [0])
    difference = np.abs(np.asarray(half, dtype=int) - np.asarray(full, dtype=int))
    float32, bfloat16 = (
        torch.randn(64, generator=torch.Generator().manual_seed(0), dtype=kind) for kind in (None, torch.bfloat16)
    )
    if torch.allclose(float32, bfloat16.float(), atol=0.02):
        assert 0 < difference.mean() < 8
    else:  # torch 2.11 draws other noise in half precision
        assert difference.mean() > 0
    with pytest.raises(ValueError, match=r"size 40 cannot be generated .* multiple of 16, as 32 or 48. It was trained at 32"):
        tiny(folder, size=40)


@pytest.mark.parametrize(("device", "gpu"), [("auto", 3), ("cuda", 3), ("cuda:1", 1)])
def test_offload_works_on_the_gpu_of_its_process(folder: Path, monkeypatch: pytest.MonkeyPatch, device: str, gpu: int) -> None:
    for name, value in (("is_available", True), ("device_count", 4), ("current_device", 3)):
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    decoder = tiny(folder, device=device, offload=True)
    pipeline = decoder._prepared(decoder.load(decoder.folder))
    assert pipeline._offload_device == torch.device("cuda", gpu)


@pytest.mark.long
def test_weights_are_loaded_when_used_and_freed_after(folder: Path) -> None:
    with tiny(folder) as decoder:
        assert decoder._pipeline is None
        (first,) = decoder.decode(EMBED[:1], TEXTS[:1], [0])
        assert decoder._pipeline is not None
    assert decoder._pipeline is None
    assert same(decoder.decode(EMBED[:1], TEXTS[:1], [0])[0], first)
    assert not isinstance(decoder, torch.nn.Module)  # so that it cannot become part of a LightningModule


class Full:
    """A pipeline that runs out of memory above a number of images."""

    def __init__(self, room: int, error: RuntimeError) -> None:
        self.room, self.error, self.sizes = room, error, list[int]()

    def __call__(self, image_embed: torch.Tensor, *args: Any, **options: Any) -> Any:
        from diffusers import ImagePipelineOutput
        from PIL import Image

        self.sizes.append(len(image_embed))
        if len(image_embed) > self.room:
            raise self.error
        seeds = [generator.initial_seed() for generator in options["generator"]]
        return ImagePipelineOutput([Image.new("L", (1, 1), seed) for seed in seeds])


@pytest.mark.long
@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")],
)
def test_memory_that_does_not_suffice_halves_the_batch(
    folder: Path, error: RuntimeError, capsys: pytest.CaptureFixture[str]
) -> None:
    decoder = tiny(folder, batch_size=8)
    decoder._pipeline = full = Full(2, error)
    embed = torch.randn(5, 12)
    assert [image.getpixel((0, 0)) for image in decoder.decode(embed, ["x"] * 5, range(5))] == [0, 1, 2, 3, 4]
    assert full.sizes == [8, 4, 2, 2, 2] and decoder.batches.size == 2
    assert "generating 2 images at a time" in capsys.readouterr().out
    full.room = 0
    with pytest.raises(ValueError, match=r"Not even one image of .* fits into the memory of cpu. Less memory suffices with"):
        decoder.decode(embed, ["x"] * 5, range(5))
    full.room, full.error = -1, RuntimeError("something else")
    with pytest.raises(RuntimeError, match="something else"):
        decoder.decode(embed, ["x"] * 5, range(5))


def test_a_decoder_of_another_space_is_refused(folder: Path) -> None:
    decoder = tiny(folder)
    decoder.space = "open_clip:tiny:random"
    decoder.require_space(SPACE, "the prior")  # by its encoder's tag
    with pytest.raises(ValueError, match="decodes embeddings of open_clip:tiny:random, and the prior belongs to Vi"):
        decoder.require_space(replace(SPACE, name="ViT-L-14/openai", encoder="open_clip:ViT-L-14:openai"), "the prior")
    with pytest.raises(ValueError, match=r"12 wide, and the prior belongs to .* 16 wide"):
        decoder.require_space(replace(SPACE, dim=16), "the prior")
    with pytest.raises(ValueError, match="the prior works on normalised embeddings"):
        decoder.require_space(replace(SPACE, normalised=True), "the prior")
    with pytest.raises(ValueError, match="embeddings 12 wide; these are 16 wide"):
        decoder.decode(torch.zeros(1, 16), ["x"], [0])
    with pytest.raises(ValueError, match="5 embeddings, 4 prompts and 5 seeds"):
        decoder.decode(EMBED, TEXTS[:4], range(5))


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Iterator[Path]:
    yield Path(shutil.copytree(folder, tmp_path / "copied"))


def test_a_missing_folder_is_reported_with_its_neighbours(copied: Path) -> None:
    with pytest.raises(ValueError, match=rf"There is no folder .*copyed, .* Near it: {copied}\."):
        tiny(copied.with_name("copyed"))
    with pytest.raises(ValueError, match="is no local folder, and could not be fetched from the hub"):
        tiny(Path("nobody-at-all/no-such-decoder"))


def test_a_folder_of_another_pipeline_is_refused(copied: Path) -> None:
    index = json.loads((copied / "model_index.json").read_text())
    (copied / "model_index.json").write_text(json.dumps({**index, "_class_name": "StableDiffusionPipeline"}))
    with pytest.raises(ValueError, match="is a StableDiffusionPipeline, and this decoder needs a KandinskyV22Pipeline"):
        tiny(copied)
    (copied / "model_index.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        tiny(copied)
    (copied / "model_index.json").unlink()
    with pytest.raises(ValueError, match=r"holds no model_index.json"):
        tiny(copied)


def test_a_folder_that_lacks_a_part_is_refused(copied: Path) -> None:
    shutil.rmtree(copied / "movq")
    with pytest.raises(ValueError, match="has no movq/, which a KandinskyV22Pipeline needs"):
        tiny(copied)


def test_pickles_are_refused_with_the_way_to_convert_them(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other part is in safetensors, as in many published folders."""
    weights = copied / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(ValueError, match=r"weights of unet/ as a pickle only.* convert it once: python -c ") as refused:
        tiny(copied)
    (code,) = [word for word in shlex.split(str(refused.value)) if word.startswith("from diffusers")]
    monkeypatch.chdir(copied.parent)
    exec(code, {})
    assert tiny(copied.parent / "converted").weights


def test_a_pickle_from_the_hub_is_converted_in_its_local_folder(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = copied / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    monkeypatch.setattr(pipeline_folder, "find_model_folder", lambda *some, **more: copied)
    with pytest.raises(ValueError, match=rf'owner/name@rev has the weights of unet/ .*from_pretrained\("{copied}"\)'):
        pipeline_folder.find_pipeline("owner/name@rev", KandinskyDecoder.classes)


def test_weights_that_do_not_load_are_reported_in_a_sentence(copied: Path) -> None:
    (copied / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"cut off")
    with pytest.raises(ValueError, match="unet does not load as UNet2DConditionModel"):
        tiny(copied).decode(EMBED[:1], TEXTS[:1], [0])


def test_an_unknown_scheduler_in_the_folder_is_refused(copied: Path) -> None:
    path = copied / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "_class_name": "VQModel"}))
    with pytest.raises(ValueError, match=r"names the scheduler 'VQModel', which diffusers .* does not have"):
        tiny(copied).decode(EMBED[:1], TEXTS[:1], [0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is 0; it must be 1 or more"),
        ({"guidance": float("nan")}, "guidance is nan; it must be a finite number"),
        ({"batch_size": 0}, "batch_size is 0; it must be 1 or more"),
        ({"offload": True}, "offload moves parts off the GPU"),
    ],
)
def test_bad_options(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(folder, **options)
