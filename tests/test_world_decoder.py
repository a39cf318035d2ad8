"""The world's decoder: trained through the front door, killed and resumed; the shipped weights against what was promised."""

from __future__ import annotations

import json
import shutil
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import KandinskyV22Pipeline

from data_prep.__main__ import main
from data_prep.world_models.clip import normalised
from data_prep.world_models.decoder import denoising_loss, noise_schedule, unet_model, unwhitened
from data_prep.world_models.layout import features_of_noise, lowest_level, squares, train_layout
from data_prep.world_models.report import means, scored
from data_prep.world_models.resumable import Resumable
from eclipse_pl.priors.whitening import Whitening
from eclipse_pl.world.decoder import FOLDER, WorldDecoder
from eclipse_pl.world.encoder import FOLDER as CLIP
from eclipse_pl.world.encoder import WorldEncoder
from eclipse_pl.world.prompts import prompt_scenes

RECIPE = {
    **{"movq_steps": 2, "movq_batch_size": 2, "scenes": 12, "layout_steps": 2, "layout_batch_size": 4},
    **{"batch_size": 4, "test": 10, "evaluations": 2},
}


def train(place: Path, steps: int = 4) -> int:
    place.mkdir(exist_ok=True)
    if not (place / "clip").exists():
        shutil.copytree(CLIP, place / "clip")
    recipe = [f"--decoder.{name}={value}" for name, value in {**RECIPE, "steps": steps}.items()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_prep.world_models.report.STEPS", 2)  # no test looks at these images
        return main(["world-models", "--out", str(place), "--only", "decoder", "--work", str(place / "work"), *recipe])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models")
    assert train(place) == 0
    return place


@pytest.mark.long
def test_four_steps_make_a_pipeline_that_diffusers_loads(trained: Path) -> None:
    pipeline = KandinskyV22Pipeline.from_pretrained(trained / "decoder")
    assert pipeline.unet.config.encoder_hid_dim == 128 and pipeline.unet.dtype == torch.float32
    assert not pipeline.unet.conv_out.weight[pipeline.movq.config.latent_channels :].any()  # the variance that nobody reads
    files = {str(path.relative_to(trained / "decoder")) for path in (trained / "decoder").rglob("*")}
    assert files == {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*")}
    for config in ("unet/config.json", "movq/config.json", "scheduler/scheduler_config.json"):
        made, shipped = (json.loads((folder / config).read_text()) for folder in (trained / "decoder", FOLDER))
        assert {**made, "_diffusers_version": ""} == {**shipped, "_diffusers_version": ""}
    readme = (trained / "decoder" / "README.md").read_text()
    assert "--only decoder" in readme and "| complex | seen | 1 |" in readme and "\n| 2 |" in readme and "\n| 4 |" in readme


@pytest.mark.long
def test_a_killed_run_resumes_to_the_same_weights(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(self: Resumable, every: int, **values: float) -> None:
        if self.path.stem == "unet" and self.step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Resumable, "report", killed)
    monkeypatch.setattr("data_prep.world_models.resumable.SAVE_EVERY", 2)
    assert train(tmp_path / "models") == 130
    monkeypatch.undo()
    assert train(tmp_path / "models") == 0
    weights = "decoder/unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "models" / weights).read_bytes() == (trained / weights).read_bytes()


def test_the_lowest_level_alone_is_what_the_whole_unet_computes_there() -> None:
    torch.manual_seed(0)
    unet, embeds = unet_model(128), torch.randn(3, 128)
    left: list[torch.Tensor] = []
    unet.up_blocks[0].attentions[-1].register_forward_hook(lambda block, args, output: left.append(output))
    features = features_of_noise(unet, embeds, torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(lowest_level(unet, features, embeds), left[0])
    assert features.shape == (3, 64, 4, 4)


@pytest.mark.long
def test_the_lowest_level_learns_the_layout(tmp_path: Path) -> None:
    torch.manual_seed(0)
    unet, embeds = unet_model(128), torch.randn(64, 128)
    latents = embeds.view(64, 8, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)  # all that an embedding says
    before = {name: weight.clone() for name, weight in unet.named_parameters()}
    train_layout(tmp_path / "layout.pt", unet, latents, embeds, 60, 32, 3e-3, 0)
    head = squares(unet, 4)
    head.load_state_dict(torch.load(tmp_path / "layout.pt", weights_only=True)["head"])
    features = features_of_noise(unet, embeds, torch.Generator().manual_seed(1))
    with torch.no_grad():
        predicted = torch.nn.functional.pixel_shuffle(head(lowest_level(unet, features, embeds)), 4)
    assert (predicted - latents).pow(2).mean() < 0.7 * latents.pow(2).mean()
    moved = {name.split(".")[0] for name, weight in unet.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == {"time_embedding", "add_embedding", "encoder_hid_proj", "down_blocks", "mid_block", "up_blocks"}


def test_an_unwhitened_unet_takes_plain_embeddings() -> None:
    torch.manual_seed(0)
    embeds = torch.randn(500, 128) * torch.logspace(1, -1, 128) + 2
    unet, whitening = unet_model(128).eval(), Whitening.of(embeds)
    noise, plain = torch.randn(4, 8, 16, 16), unwhitened(unet, whitening)

    def predicted(unet: Any, embeds: torch.Tensor) -> torch.Tensor:
        return unet(noise, 999, None, added_cond_kwargs={"image_embeds": embeds}).sample

    with torch.no_grad():
        torch.testing.assert_close(predicted(plain, embeds[:4]), predicted(unet, whitening(embeds[:4])), atol=1e-4, rtol=0)


@pytest.mark.long
def test_work_of_other_settings_is_not_mixed_in(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(trained, steps=5) == 2
    assert "unet.pt has other settings" in capsys.readouterr().err


def test_the_loss_is_that_of_the_clean_latents() -> None:
    """A network that knows the answer has no loss; one that says zero has the weighted power of the latents."""
    schedule, latents = noise_schedule(), torch.randn(64, 8, 4, 4)
    asked: list[torch.Tensor] = []

    class Says:
        def __init__(self, answer: torch.Tensor) -> None:
            self.sample = torch.cat([answer, torch.full_like(answer, torch.nan)], 1)  # the variance is not looked at

        def __call__(self, noisy: torch.Tensor, times: torch.Tensor, *args: object, **options: object) -> Says:
            asked.append(times)
            return self

    embeds, generator = torch.zeros(64, 128), torch.Generator().manual_seed(0)
    assert denoising_loss(Says(latents), schedule, latents, embeds, generator) == 0
    loss = denoising_loss(Says(torch.zeros_like(latents)), schedule, torch.ones_like(latents), embeds, generator)
    assert 0.75 < loss < 0.85  # the mean weight
    assert [int((asked[0] < time).sum()) for time in (500, 1000)] == [16, 64]  # a time's chance grows with it


def test_the_schedule_ends_in_noise_and_the_pipeline_takes_it() -> None:
    schedule = noise_schedule()
    schedule.set_timesteps(20)
    assert schedule.alphas_cumprod[schedule.timesteps[0]] < 1e-6  # the first step sees no trace of an image
    assert unet_model(128).config.out_channels == 2 * unet_model(128).config.in_channels


@pytest.mark.long
def test_shipped_weights_are_small_and_quick() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= 8_000_000
    decoder = WorldDecoder(device="cpu")
    decoder.decode(torch.zeros(16, 128), ["x"] * 16, range(16), torch.zeros(16, 128))
    times = []
    for _ in range(2):
        began = time.process_time()
        decoder.decode(torch.zeros(16, 128), ["x"] * 16, range(16), torch.zeros(16, 128))
        times.append((time.process_time() - began) / 16)
    # Promised are 150 ms on two cores. This is one core's time, four times over: the machine may be busy or old.
    assert min(times) < 4 * 2 * 0.15


@pytest.mark.long
def test_shipped_decoder_generates_what_the_embedding_says() -> None:
    facts = means(scored(FOLDER, WorldEncoder(device="cpu"), 60))
    assert facts["colour"] >= 0.75 and facts["shape"] >= 0.8  # 0.86 and 0.88 on 600: see the table beside the weights


def test_the_worlds_decoder_belongs_to_the_worlds_encoder() -> None:
    encoder = WorldEncoder(device="cpu")
    embeds = encoder.encode_images(normalised(list(islice(prompt_scenes("colour", "seen", 2), 2))))
    space = encoder.space(embeds.mean(0), embeds.std(0))
    decoder = WorldDecoder(device="cpu", steps=2, batch_size=2)
    decoder.require_space(space, "the prior")
    images = decoder.decode(embeds, ["x", "y"], [0, 1])
    assert images[0].size == (64, 64) and not np.array_equal(*map(np.asarray, images))
