"""Priors of the world in diffusers' pipelines: exported through the front door, loaded by diffusers' own code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    DDPMScheduler,
    KandinskyV22Pipeline,
    KandinskyV22PriorPipeline,
    PriorTransformer,
    UnCLIPScheduler,
    UNet2DConditionModel,
    VQModel,
)
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from eclipse_pl.__main__ import main as command
from eclipse_pl.commands.sample import remove_former
from eclipse_pl.encoders.clip_text import text_model_of, tokenizer_of
from eclipse_pl.loading import load_prior
from eclipse_pl.pipeline import EclipsePriorPipeline
from eclipse_pl.world.decoder import WorldDecoder
from eclipse_pl.world.encoder import WorldEncoder
from tests.helpers.released_folders import KANDINSKY_SCHEDULER, TINY, write_eclipse
from tests.helpers.runs import write_experiment

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.processes

PROMPTS = ["a red star", "two small blue squares and an orange heart"]
SIZES = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def run_of(folder: Path, prior: str, init_args: dict[str, object]) -> Path:
    """A prior that was trained on the world for two steps."""
    folder.mkdir(exist_ok=True)
    data = {"folder": str(folder.parent / "world"), "train_pairs": 32, "val_pairs": 8, "test_pairs": 8, "batch_size": 8}
    experiment = write_experiment(
        folder,
        data={
            "class_path": "eclipse_pl.world.datamodule.WorldDataModule",
            "init_args": {**data, "workers": 0, "window": 1},
        },
        model__prior={"class_path": f"eclipse_pl.priors.{prior}", "init_args": init_args},
        trainer__max_steps=2,
        trainer__val_check_interval=2,
    )
    assert command(["fit", "--config", str(experiment)]) == 0
    return folder / "runs" / "tiny" / "version_0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def eclipse(folder: Path) -> Path:
    return run_of(folder / "eclipse", "eclipse.EclipsePrior", SIZES)


@pytest.fixture(scope="module")
def diffusion(folder: Path) -> Path:
    return run_of(folder / "diffusion", "diffusion.DiffusionPrior", {**SIZES, "clamp": 3.0})


@pytest.fixture(scope="module")
def pipeline(folder: Path, eclipse: Path) -> EclipsePriorPipeline:
    assert command(["export", "--prior", str(eclipse), "--out", str(folder / "pipeline")]) == 0
    return EclipsePriorPipeline.from_pretrained(folder / "pipeline")


@pytest.fixture(scope="module")
def base(folder: Path) -> Path:
    """A KandinskyV22PriorPipeline of the world's CLIP, as far as such a thing exists: its image encoder is another."""
    encoder = WorldEncoder(device="cpu")
    vision = CLIPVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=8, patch_size=8,
        projection_dim=128,
    )  # fmt: skip
    KandinskyV22PriorPipeline(
        prior=PriorTransformer(2, 8, 2, 128, 32),
        image_encoder=CLIPVisionModelWithProjection(vision),
        text_encoder=text_model_of(encoder),
        tokenizer=tokenizer_of(encoder),
        scheduler=UnCLIPScheduler(),
        image_processor=CLIPImageProcessor(),
    ).save_pretrained(folder / "base")
    return folder / "base"


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_the_pipeline_predicts_what_the_prior_predicts(pipeline: EclipsePriorPipeline, eclipse: Path) -> None:
    prior, encoder = load_prior(str(eclipse)), WorldEncoder(device="cpu")
    expected = prior.sample(encoder.encode_text(PROMPTS), generators(3, 4))
    said = pipeline(PROMPTS, generator=generators(3, 4))
    torch.testing.assert_close(said.image_embeds, expected, atol=1e-3, rtol=1e-4)
    assert prior.space.zero_image is not None
    torch.testing.assert_close(said.negative_image_embeds, prior.space.zero_image.expand(2, -1), atol=1e-5, rtol=1e-5)


def test_every_argument_of_the_pipeline_is_honoured(pipeline: EclipsePriorPipeline) -> None:
    one, four = (
        pipeline(PROMPTS[0], generator=generators(5)),
        pipeline(PROMPTS, num_images_per_prompt=2, generator=generators(5, 6, 5, 6)),
    )
    torch.testing.assert_close(four.image_embeds[0], one.image_embeds[0], atol=1e-4, rtol=1e-4)
    assert (four.image_embeds[0] - four.image_embeds[1]).abs().max() > 1e-3
    negative = pipeline(PROMPTS, negative_prompt="a blue cross", generator=generators(5, 6))
    alone = pipeline(["a blue cross", "a blue cross"], generator=generators(5, 6))
    torch.testing.assert_close(negative.negative_image_embeds, alone.image_embeds, atol=1e-4, rtol=1e-4)
    each = pipeline(PROMPTS, negative_prompt=["", "a blue cross"], generator=generators(5, 6))
    torch.testing.assert_close(each.negative_image_embeds[1], alone.image_embeds[1], atol=1e-4, rtol=1e-4)
    noise = torch.randn(1, 128, generator=generators(5)[0])
    arrays = pipeline(PROMPTS[0], latents=noise, output_type="np", return_dict=False)
    assert isinstance(arrays[0], np.ndarray)
    np.testing.assert_allclose(arrays[0], one.image_embeds.numpy(), atol=1e-4)
    whole, again = (pipeline(PROMPTS, generator=generators(9)[0]).image_embeds for _ in range(2))
    assert torch.equal(whole, again)


def test_mistakes_in_a_call_are_answered(pipeline: EclipsePriorPipeline) -> None:
    for options, message in [
        ({"negative_prompt": ["", "", ""]}, "3 negative prompts for 2 prompts"),
        ({"num_images_per_prompt": 0}, "num_images_per_prompt is 0"),
        ({"output_type": "pil"}, "output_type is 'pil'; choose one of 'pt', 'np'"),
        ({"latents": torch.zeros(3, 128)}, r"latents must have the shape \(2, 128\), not \(3, 128\)"),
        ({"latents": torch.zeros(2, 128), "generator": generators(1)[0]}, "a generator cannot be passed with them"),
        ({"generator": generators(1, 2, 3)}, "3 generators for 2 captions"),
    ]:
        with pytest.raises(ValueError, match=message):
            pipeline(PROMPTS, **options)
    with pytest.raises(TypeError, match="num_inference_steps"):
        pipeline(PROMPTS, num_inference_steps=25)
    with pytest.raises(ValueError, match="prompt is an empty list"):
        pipeline([])


def test_a_prompt_that_is_cut_is_named(pipeline: EclipsePriorPipeline) -> None:
    long = "a red star and " * 40
    with pytest.warns(UserWarning, match="the end of this prompt is not read: 'a red star and a red"):
        said = pipeline([PROMPTS[0], long], generator=generators(1, 2))
    assert said.image_embeds.isfinite().all()


def test_the_output_feeds_kandinskys_decoder(pipeline: EclipsePriorPipeline) -> None:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=8, block_out_channels=(32, 32), layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"), mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        attention_head_dim=16, cross_attention_dim=8, addition_embed_type="image", encoder_hid_dim_type="image_proj",
        encoder_hid_dim=128, resnet_time_scale_shift="scale_shift",
    )  # fmt: skip
    movq = VQModel(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4, num_vq_embeddings=16, norm_type="spatial", vq_embed_dim=4,
    )  # fmt: skip
    decoder = KandinskyV22Pipeline(unet=unet, scheduler=DDPMScheduler(), movq=movq)
    decoder.set_progress_bar_config(disable=True)
    image_embeds, negative_image_embeds = pipeline(PROMPTS, generator=generators(1, 2), return_dict=False)
    images = decoder(image_embeds, negative_image_embeds, height=16, width=16, num_inference_steps=2).images
    assert len(images) == 2


def test_what_was_exported_is_a_released_prior(folder: Path, eclipse: Path, pipeline: EclipsePriorPipeline) -> None:
    one, other = load_prior(str(eclipse)), load_prior(str(folder / "pipeline"))
    other.space.require_same(one.space, "one", "the other")
    text = WorldEncoder(device="cpu").encode_text(PROMPTS)
    torch.testing.assert_close(other.sample(text, generators(1, 2)), one.sample(text, generators(1, 2)))


def test_what_diffusers_saved_is_a_released_prior(tmp_path: Path, eclipse: Path, pipeline: EclipsePriorPipeline) -> None:
    """`save_pretrained`, as `push_to_hub` does it, writes our class's name and no space."""
    pipeline.save_pretrained(tmp_path / "saved")
    encoder = WorldEncoder(device="cpu")
    text = encoder.encode_text(PROMPTS)
    prior = load_prior(str(tmp_path / "saved"), encoder)
    torch.testing.assert_close(prior.sample(text, generators(1, 2)), load_prior(str(eclipse)).sample(text, generators(1, 2)))
    again = EclipsePriorPipeline.from_pretrained(tmp_path / "saved")
    assert torch.equal(again(PROMPTS, generator=generators(1, 2))[0], pipeline(PROMPTS, generator=generators(1, 2))[0])


def test_a_published_prior_needs_an_image_encoder_or_a_negative_prompt(
    tmp_path: Path, pipeline: EclipsePriorPipeline, base: Path
) -> None:
    from eclipse_pl.pipeline import EclipsePriorTransformer

    published = EclipsePriorTransformer.from_pretrained(
        write_eclipse(tmp_path / "published", **{**TINY, "embedding_dim": 128, "num_embeddings": 32})
    )
    parts = {"prior": published, "text_encoder": pipeline.text_encoder, "tokenizer": pipeline.tokenizer}
    with pytest.raises(ValueError, match="Pass negative_prompt, or give the pipeline the image_encoder"):
        EclipsePriorPipeline(**parts)(PROMPTS)
    image_encoder = CLIPVisionModelWithProjection.from_pretrained(base / "image_encoder")
    said = EclipsePriorPipeline(**parts, image_encoder=image_encoder)(PROMPTS)
    expected = image_encoder(torch.zeros(1, 3, 8, 8)).image_embeds
    torch.testing.assert_close(said.negative_image_embeds, expected.expand(2, -1))


def test_a_diffusion_prior_runs_in_kandinskys_prior_pipeline(folder: Path, diffusion: Path, base: Path) -> None:
    out = folder / "kandinsky"
    assert command(["export", "--prior", str(diffusion), "--base", str(base), "--out", str(out)]) == 0
    theirs = KandinskyV22PriorPipeline.from_pretrained(out)
    theirs.set_progress_bar_config(disable=True)
    said = theirs(PROMPTS, generator=torch.Generator().manual_seed(2), guidance_scale=4.0, num_inference_steps=25)
    prior, encoder = load_prior(str(diffusion)), WorldEncoder(device="cpu")
    expected = prior.sample(encoder.encode_text(PROMPTS), torch.Generator().manual_seed(2))
    # of a norm of about 30; UnCLIPScheduler rounds its first steps in float32 (test_schedule.py)
    torch.testing.assert_close(said.image_embeds, expected, atol=2e-2, rtol=0)


def test_a_diffusion_prior_alone_is_a_prior_transformer(folder: Path, diffusion: Path) -> None:
    out = folder / "alone"
    assert command(["export", "--prior", str(diffusion), "--out", str(out)]) == 0
    network = PriorTransformer.from_pretrained(out, subfolder="prior")
    assert torch.equal(network.clip_std[0], load_prior(str(diffusion)).space.image_std)
    scheduler = UnCLIPScheduler.from_pretrained(out, subfolder="scheduler")
    assert {**KANDINSKY_SCHEDULER, "clip_sample_range": 3.0}.items() <= {
        **scheduler.config, "_class_name": "UnCLIPScheduler"
    }.items()  # fmt: skip


def test_karlos_pipeline_has_its_scheduler_elsewhere(folder: Path, diffusion: Path, base: Path, tmp_path: Path) -> None:
    karlo = tmp_path / "karlo"
    (karlo / "text_encoder").mkdir(parents=True)
    (karlo / "text_encoder" / "config.json").write_text(json.dumps({"projection_dim": 128}))
    (karlo / "decoder").mkdir()
    (karlo / "decoder" / "config.json").write_text("{}")
    index = {
        "_class_name": "UnCLIPPipeline",
        "prior": ["diffusers", "PriorTransformer"],
        "prior_scheduler": ["diffusers", "x"],
    }
    (karlo / "model_index.json").write_text(json.dumps(index))
    assert command(["export", "--prior", str(diffusion), "--base", str(karlo), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "decoder" / "config.json").is_file()
    PriorTransformer.from_pretrained(tmp_path / "out", subfolder="prior")
    assert UnCLIPScheduler.from_pretrained(tmp_path / "out", subfolder="prior_scheduler").config.clip_sample_range == 3.0
    assert json.loads((tmp_path / "out" / "model_index.json").read_text())["prior_scheduler"][1] == "UnCLIPScheduler"


def test_sample_writes_embeddings_and_images(eclipse: Path, tmp_path: Path) -> None:
    prompts = json.dumps(PROMPTS)
    args = ["sample", "--prior", str(eclipse), "--prompt", prompts, "--count", "2", "--seed", "7", "--out", str(tmp_path)]
    assert command([*args, "--device", "cpu"]) == 0
    embeds = load_file(tmp_path / "embeddings.safetensors")["image_embed"]
    text = WorldEncoder(device="cpu").encode_text([PROMPTS[0], PROMPTS[0], PROMPTS[1], PROMPTS[1]])
    expected = load_prior(str(eclipse)).sample(text, generators(7, 8, 7, 8))
    torch.testing.assert_close(embeds, expected, atol=1e-3, rtol=1e-4)
    written = json.loads((tmp_path / "samples.json").read_text())
    assert [(sample["prompt"], sample["seed"]) for sample in written["samples"]] == [
        (prompt, seed) for prompt in PROMPTS for seed in (7, 8)
    ]
    # the world's decoder is found by the prior's space
    images = [np.asarray(Image.open(tmp_path / f"{row:04d}.png")) for row in range(4)]
    assert {image.shape for image in images} == {(64, 64, 3)} and not np.array_equal(images[0], images[1])
    with Image.open(tmp_path / "contact_sheet.png") as sheet:
        assert sheet.width > 2 * 64 and sheet.height > 2 * 64


def test_sample_leaves_no_file_of_an_earlier_command(eclipse: Path, tmp_path: Path) -> None:
    """With fewer samples, then without images; files of the user's stay."""
    args = ["sample", "--prior", str(eclipse), "--prompt", PROMPTS[0], "--out", str(tmp_path), "--device", "cpu"]
    own = {"notes.txt", "0007.png", "0001.jpg", "0000_best.png"}
    for name in own:
        (tmp_path / name).write_bytes(b"mine")
    for count in (3, 2):
        assert command([*args, "--count", str(count)]) == 0
        images = {f"{number:04d}.png" for number in range(count)}
        written = {path.name for path in tmp_path.iterdir()}
        assert written == own | images | {"contact_sheet.png", "samples.json", "embeddings.safetensors"}
    about = json.loads((tmp_path / "samples.json").read_text())
    remove_former(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == own
    assert all((tmp_path / name).read_bytes() == b"mine" for name in own)
    (tmp_path / "0000.png").write_bytes(b"an image")
    for content in ([], {"samples": [0]}, {**about, "images": 0}):
        (tmp_path / "samples.json").write_text(json.dumps(content))
        remove_former(tmp_path)
        assert (tmp_path / "0000.png").exists(), f"not of a command that wrote {content}"
    del about["images"]
    (tmp_path / "samples.json").write_text(json.dumps(about))
    remove_former(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == own, "an earlier version did not count its images"


def test_a_negative_prompt_leads_the_decoder_away(eclipse: Path, tmp_path: Path) -> None:
    """By the prior's embedding of it, with the seed of each image; the embedding of the prompt stays."""
    args = ["sample", f"--prior={eclipse}", f'--prompt=["{PROMPTS[0]}"]', "--count=2", "--device=cpu"]
    negative = "a red star"
    assert command([*args, f"--out={tmp_path / 'plain'}"]) == 0
    assert command([*args, f"--out={tmp_path / 'led'}", f"--negative_prompt={negative}"]) == 0
    embeds = [load_file(tmp_path / out / "embeddings.safetensors")["image_embed"] for out in ("plain", "led")]
    assert torch.equal(*embeds)
    prior = load_prior(str(eclipse))
    away = prior.sample(WorldEncoder(device="cpu").encode_text([negative, negative]), generators(0, 1))
    decoder = WorldDecoder(device="cpu")
    decoder.require_space(prior.space, "the prior")
    for row, image in enumerate(decoder.decode(embeds[0], [PROMPTS[0]] * 2, [0, 1], away)):
        led, plain = (np.asarray(Image.open(tmp_path / out / f"{row:04d}.png")) for out in ("led", "plain"))
        assert np.abs(np.asarray(image).astype(int) - led).max() <= 1 and not np.array_equal(led, plain)


@pytest.mark.parametrize("part", ["world_nearest", "world"])
def test_a_negative_prompt_without_effect_is_refused(
    eclipse: Path, tmp_path: Path, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    decoder = ["--decoder", str(ROOT / f"experiments/parts/decoder/{part}.yaml")]
    decoder += ["--decoder.init_args.guidance", "1.0"] * (part == "world")
    args = [
        "sample",
        "--prior",
        str(eclipse),
        "--prompt",
        PROMPTS[0],
        "--out",
        str(tmp_path / "out"),
        "--device",
        "cpu",
        *decoder,
    ]
    assert command([*args, "--negative_prompt", "a red star"]) == 2
    assert "takes no negative prompt here" in capsys.readouterr().err
    assert not (tmp_path / "out").exists(), "samples.json would say that it was used"


def test_a_released_prior_becomes_a_run(folder: Path, eclipse: Path, pipeline: EclipsePriorPipeline, tmp_path: Path) -> None:
    args = ["import", "--weights", str(folder / "pipeline"), "--data", str(folder / "world"), "--experiment", "released"]
    assert command([*args, "--folder", str(tmp_path / "runs")]) == 0
    run = tmp_path / "runs" / "released" / "validate_0"
    text = WorldEncoder(device="cpu").encode_text(PROMPTS)
    expected = load_prior(str(eclipse)).sample(text, generators(1, 2))
    torch.testing.assert_close(load_prior(str(run)).sample(text, generators(1, 2)), expected)
    ours, theirs = (json.loads((one / "latent.json").read_text())["rows"]["this prior"] for one in (eclipse, run))
    assert ours["all"] == pytest.approx(theirs["all"], abs=1e-4)


# mistakes


def refused(capfd: pytest.CaptureFixture[str], *args: str) -> str:
    assert command(list(args)) == 2
    return capfd.readouterr().err


def test_bad_exports(folder: Path, eclipse: Path, diffusion: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert "holds something already" in refused(capfd, "export", "--prior", str(eclipse), "--out", str(tmp_path / "full"))
    out = str(tmp_path / "out")
    assert "There is no folder" in refused(capfd, "export", "--prior", str(tmp_path / "runs/x/y"), "--out", out)
    other = tmp_path / "other"
    (other / "text_encoder").mkdir(parents=True)
    (other / "text_encoder" / "config.json").write_text(json.dumps({"projection_dim": 768}))
    (other / "model_index.json").write_text(json.dumps({"_class_name": "X", "prior": []}))
    said = refused(capfd, "export", "--prior", str(diffusion), "--out", out, "--base", str(other))
    assert "reads captions 768 wide, and the prior belongs to world" in said
    (other / "model_index.json").write_text(json.dumps({"_class_name": "KandinskyV22Pipeline"}))
    said = refused(capfd, "export", "--prior", str(diffusion), "--out", out, "--base", str(other))
    assert "is a KandinskyV22Pipeline, which has no prior" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "other"], "nothing half-written"


def test_an_export_into_its_base_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The base was copied into itself until a path was too long."""
    (tmp_path / "base").mkdir()
    said = refused(capfd, "export", "--prior", "none", "--base", str(tmp_path / "base"), "--out", str(tmp_path / "base/mine"))
    assert f"{tmp_path / 'base/mine'} lies in {tmp_path / 'base'}, which is copied. Choose a folder outside of it." in said


def test_priors_without_a_place_in_diffusers(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = run_of(tmp_path / "mlp", "mlp.MLPPrior", {"num_layers": 1, "width": 8})
    assert "MLPPrior has no prior transformer" in refused(capfd, "export", "--prior", str(run), "--out", str(tmp_path / "out"))


def test_an_encoder_of_another_space(eclipse: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    other = ["--encoder", "eclipse_pl.encoders.openclip.OpenClipEncoder", "--encoder.model", "ViT-B-32"]
    other += ["--encoder.pretrained", "random", "--encoder.device", "cpu"]
    said = refused(capfd, "sample", "--prior", str(eclipse), "--prompt", '["a star"]', "--out", str(tmp_path), *other)
    assert "belongs to world" in said and "ViT-B-32" in said


@pytest.mark.parametrize("out", [".", "..", ""])
def test_the_working_folder_is_refused_before_the_work(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It could not be replaced at the end, although it is empty."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert f"--out {out} is the folder in which this command runs" in refused(
        capfd, "export", "--prior", "none", f"--out={out}"
    )
