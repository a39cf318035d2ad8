"""Any pipeline of diffusers as a text-to-image model: tiny ones in the layouts in which they were published."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from eclipse_pl.__main__ import main as command
from eclipse_pl.commands.benchmark import build_parser
from eclipse_pl.prompts.prompt import Prompt
from eclipse_pl.text_to_image.diffusers_pipeline import DiffusersPipeline
from tests.helpers.pipelines import kandinsky, kandinsky_prior, karlo, stable_diffusion, wuerstchen

PROTOCOL = Path(__file__).parent.parent / "experiments/parts/protocol/world_quick.yaml"
TEXTS = ["a red hat", "a blue hat", "two cats"]
PROMPTS = [Prompt(f"hats/{number:04d}", "hats", text) for number, text in enumerate(TEXTS)]
OPTIONS: dict[str, dict[str, Any]] = {
    "stable_diffusion": {"steps": 2, "size": 16},
    "karlo": {"options": dict.fromkeys(("prior_num_inference_steps", "decoder_num_inference_steps"), 2)},
    "kandinsky": {"steps": 2, "size": 32, "options": {"prior_num_inference_steps": 2}},
    "wuerstchen": {"steps": 2, "size": 128, "options": {"prior_num_inference_steps": 2}},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Each with its prior where it is published in two."""
    place = tmp_path_factory.mktemp("pipelines")
    decoder, prior = wuerstchen(place / "wuerstchen")
    return {
        "stable_diffusion": {"model": str(stable_diffusion(place / "sd"))},
        "karlo": {"model": str(karlo(place / "karlo"))},
        "kandinsky": {"model": str(kandinsky(place / "kandinsky")), "prior": str(kandinsky_prior(place / "prior"))},
        "wuerstchen": {"model": str(decoder), "prior": str(prior)},
    }


def same(one: Image.Image, other: Image.Image) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.long
@pytest.mark.parametrize("name", OPTIONS)
def test_an_image_depends_on_prompt_and_seed_alone(folders: dict[str, dict[str, str]], name: str) -> None:
    text_to_image = DiffusersPipeline(**folders[name], **OPTIONS[name], batch_size=2, device="cpu")
    text_to_image.require_ready()
    images = text_to_image.generate(PROMPTS, [0, 1, 2])
    assert len(images) == 3
    order = [2, 0]
    for image, number in zip(text_to_image.generate([PROMPTS[i] for i in order], order), order, strict=True):
        assert same(image, images[number])
    assert not same(text_to_image.generate(PROMPTS[:1], [1])[0], images[0])
    text_to_image.close()
    assert same(text_to_image.generate(PROMPTS[:1], [0])[0], images[0]), "loaded again"


def test_a_negative_prompt_stands_beside_each_prompt(folders: dict[str, dict[str, str]]) -> None:
    plain, led = (
        DiffusersPipeline(**folders["stable_diffusion"], steps=2, size=16, batch_size=2, device="cpu", options=options)
        for options in (None, {"negative_prompt": "a blue hat"})
    )
    images = led.generate(PROMPTS, [0, 1, 2])
    assert len(images) == 3 and not same(images[0], plain.generate(PROMPTS[:1], [0])[0])


@pytest.mark.parametrize(
    "stated, name", [({"steps": 20}, "num_inference_steps"), ({"guidance": 2.0}, "guidance_scale"), ({}, "generator")]
)
def test_an_option_that_another_sets_is_refused(stated: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=rf"options\.{name} is set by"):
        DiffusersPipeline("some/model", **stated, options={name: 1})


@pytest.mark.parametrize("stated", [{"steps": 0}, {"steps": -1}, {"size": 0}, {"size": -8}], ids=str)
def test_numbers_that_generate_nothing_are_refused(stated: dict[str, Any]) -> None:
    """Stable Diffusion made images of its own size of size 0, and steps of -1."""
    with pytest.raises(ValueError, match=r"it must be 1 or more, or null for the pipeline's own"):
        DiffusersPipeline("some/model", **stated)


@pytest.mark.parametrize("guidance", [float("nan"), float("inf")])
def test_a_guidance_that_is_no_number_is_refused(guidance: float) -> None:
    with pytest.raises(ValueError, match=f"guidance is {guidance}; it must be a finite number"):
        DiffusersPipeline("some/model", guidance=guidance)


@pytest.mark.parametrize("name", OPTIONS)
def test_prompts_that_its_tokenizers_cut_are_counted(folders: dict[str, dict[str, str]], name: str) -> None:
    prompts = [Prompt("x/0", "x", "a cat"), Prompt("x/1", "x", "a cat " * 100)]
    assert DiffusersPipeline(**folders[name], device="cpu").count_cut(prompts) == 1


def test_kandinsky_generates_what_its_two_pipelines_generate(folders: dict[str, dict[str, str]]) -> None:
    from diffusers import KandinskyV22Pipeline, KandinskyV22PriorPipeline

    prior = KandinskyV22PriorPipeline.from_pretrained(folders["kandinsky"]["prior"])
    decoder = KandinskyV22Pipeline.from_pretrained(folders["kandinsky"]["model"])
    generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
    embeds = prior(TEXTS, num_inference_steps=2, generator=generators).to_tuple()
    theirs = decoder(*embeds, height=32, width=32, num_inference_steps=2, generator=generators).images
    ours = DiffusersPipeline(**folders["kandinsky"], **OPTIONS["kandinsky"], batch_size=3, device="cpu").generate(
        PROMPTS, range(3)
    )
    assert all(map(same, ours, theirs))


def test_other_weights_are_another_text_to_image(folders: dict[str, dict[str, str]], tmp_path: Path) -> None:
    def identity() -> dict[str, Any]:
        return DiffusersPipeline(**folders["kandinsky"]).identity

    before = identity()
    assert before == identity() and before["prior_pipeline"] == folders["kandinsky"]["prior"]
    config = Path(folders["kandinsky"]["prior"]) / "scheduler/scheduler_config.json"
    text = config.read_text()
    config.write_text(text + " ")
    try:
        assert identity() != before
    finally:
        config.write_text(text)


def test_halves_that_do_not_belong_together(folders: dict[str, dict[str, str]]) -> None:
    with pytest.raises(ValueError, match=r"is a KandinskyV22Pipeline: it decodes .* Name that pipeline as"):
        DiffusersPipeline(folders["kandinsky"]["model"]).require_ready()
    with pytest.raises(ValueError, match="is a UnCLIPPipeline and reads prompts itself"):
        DiffusersPipeline(folders["karlo"]["model"], prior=folders["kandinsky"]["prior"]).require_ready()
    with pytest.raises(ValueError, match="could not be loaded as a text-to-image pipeline"):
        DiffusersPipeline(folders["kandinsky"]["model"], prior=folders["karlo"]["model"], device="cpu").generate(
            PROMPTS, range(3)
        )


@pytest.mark.parametrize(
    ("name", "published"),
    [("kandinsky", "kandinsky-community/kandinsky-2-2-prior"), ("wuerstchen", "warp-ai/wuerstchen-prior")],
)
def test_the_command_that_names_the_prior_works(
    folders: dict[str, dict[str, str]], name: str, published: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """`--pipeline` takes no prior, and `--prior` is that of `--decoder`."""
    words = ["benchmark", f"--protocol={PROTOCOL}", f"--out={tmp_path / 'out'}"]
    assert command([*words, "--pipeline", folders[name]["model"]]) == 2
    said = re.search(r"--text_to_image .*(?= \(with no --pipeline\))", capfd.readouterr().err)
    assert said is not None
    parser = build_parser()
    found = parser.instantiate(parser.parse_args([*words[1:], *shlex.split(said[0])])).text_to_image
    assert isinstance(found, DiffusersPipeline)
    assert (found.model, found.prior) == (folders[name]["model"], published)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_karlo_in_half_precision_needs_a_gpu(folders: dict[str, dict[str, str]], precision: Any) -> None:
    karlo = DiffusersPipeline(folders["karlo"]["model"], precision=precision, device="cpu")
    with pytest.raises(ValueError, match=rf"precision is {precision}, .* on the CPU .* float32, or use a GPU"):
        karlo.generate(PROMPTS, range(3))


@pytest.mark.parametrize("part", ["text_encoder/model", "unet/diffusion_pytorch_model"])
def test_weights_that_are_cut_off_are_reported_in_a_sentence(
    folders: dict[str, dict[str, str]], tmp_path: Path, part: str
) -> None:
    copied = Path(shutil.copytree(folders["stable_diffusion"]["model"], tmp_path / "copied"))
    weights = copied / f"{part}.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match="copied could not be loaded as a text-to-image pipeline"):
        DiffusersPipeline(str(copied), device="cpu").generate(PROMPTS, range(3))


def pipeline(fits: int, hidden: list[bool] | None = None) -> Callable[..., Any]:
    """Has memory for a number of images."""

    def call(prompts: list[str], generator: list[torch.Generator]) -> Any:
        if len(prompts) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return SimpleNamespace(images=[Image.new("RGB", (4, 4))] * len(prompts), nsfw_content_detected=hidden)

    return call


@pytest.mark.long
def test_memory_that_does_not_suffice(capfd: pytest.CaptureFixture[str]) -> None:
    text_to_image = DiffusersPipeline("some/model", device="cpu")
    text_to_image._pipeline = pipeline(fits=2)
    assert len(text_to_image.generate(PROMPTS, range(3))) == 3
    assert "generating 2 images at a time" in capfd.readouterr().out
    text_to_image._pipeline = pipeline(fits=0)
    with pytest.raises(ValueError, match=r"one image of some/model fits into the memory of cpu\. Take a smaller size\."):
        text_to_image.generate(PROMPTS, range(3))


def test_blackened_images_are_reported(capfd: pytest.CaptureFixture[str]) -> None:
    text_to_image = DiffusersPipeline("some/model", device="cpu", batch_size=3)
    text_to_image._pipeline = pipeline(fits=3, hidden=[False, True, False])
    text_to_image.generate(PROMPTS, range(3))
    assert "some/model blackened 1 of 3 images as unsafe" in capfd.readouterr().err
