"""The world's decoder: a `KandinskyV22Pipeline`, trained like Kandinsky 2.2's, at a size for one CPU core.

Four stages: train a MoVQ (`movq`); compute latents and image embeddings of many scenes; train the UNet's lowest level to
predict the layout (`layout`); train the UNet to denoise the latents, given the embedding.
"""

from __future__ import annotations

import copy
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from data_prep.world_models.clip import normalised
from data_prep.world_models.layout import Embeds, Latents, train_layout
from data_prep.world_models.movq import CHANNELS, SIDE, as_images, train_movq
from data_prep.world_models.muon import MuonAndAdamW
from data_prep.world_models.report import add_point, read_curve, scored, write_readme
from data_prep.world_models.resumable import Resumable, generator_of
from data_prep.writing import write_tensors
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.priors.whitening import Whitening
from eclipse_pl.world.splits import encoder_scene


@dataclass(frozen=True)
class DecoderRecipe:
    """Settings of the decoder's training.

    Args:
        movq_steps: Optimiser steps of the MoVQ.
        movq_batch_size: Images per step, all new.
        movq_learning_rate: Highest learning rate, reached after 100 steps. It then falls to 0 along a cosine.
        scenes: Scenes that the UNet is trained on.
        layout_steps: Optimiser steps of the UNet's lowest level.
        layout_batch_size: Latents per step.
        layout_learning_rate: Learning rate after 100 steps. It falls linearly to 0 over the last two fifths.
        steps: Optimiser steps of the whole UNet.
        batch_size: Latents per step.
        learning_rate: Learning rate after 100 steps. It falls linearly to 0 over the second half.
        drop: Fraction of embeddings replaced by the all-zero image's, for guidance.
        average: Decay of the weights' moving average. The average is saved.
        evaluations: Points of the curve, evenly spaced.
        test: Images of the test split at the end. Each point of the curve uses a fifth of them.
    """

    movq_steps: int = 1500
    movq_batch_size: int = 16
    movq_learning_rate: float = 2e-3
    scenes: int = 300_000
    layout_steps: int = 1600
    layout_batch_size: int = 128
    layout_learning_rate: float = 3e-3
    steps: int = 10_700
    batch_size: int = 64
    learning_rate: float = 2e-3
    drop: float = 0.1
    average: float = 0.998
    evaluations: int = 5
    test: int = 600


def unet_model(dim: int) -> Any:
    """Return Kandinsky 2.2's UNet with fewer channels and layers.

    Three levels reach 4 x 4 latents, where the zero padding of the convolutions distinguishes all places.
    """
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=SIDE,
        in_channels=CHANNELS,
        out_channels=2 * CHANNELS,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        block_out_channels=(32, 64, 96),
        layers_per_block=1,
        norm_num_groups=16,
        resnet_time_scale_shift="scale_shift",
        time_embedding_dim=384,
        attention_head_dim=16,
        encoder_hid_dim=dim,
        encoder_hid_dim_type="image_proj",
        addition_embed_type="image",
        cross_attention_dim=64,
    )
    # The pipeline expects a prediction and a variance, which its scheduler does not use. The variance stays 0.
    with torch.no_grad():
        unet.conv_out.weight[CHANNELS:] = 0
        unet.conv_out.bias[CHANNELS:] = 0
    return unet


def noise_schedule() -> Any:
    """Return a cosine schedule to pure noise, with the clean latents as target, for 20 steps of DDPM.

    Its random steps correct errors of earlier steps: the oracle recognises more colours and shapes than with DDIM.
    """
    from diffusers import DDPMScheduler

    return DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="sample", clip_sample=False, timestep_spacing="trailing"
    )


def train_decoder(folder: Path, encoder: Encoder, work: Path, recipe: DecoderRecipe, seed: int, command: str) -> None:
    """Write a pipeline and its README. A killed run resumes from the state in ``work``."""
    movq, movq_seconds = train_movq(work, recipe.movq_steps, recipe.movq_batch_size, recipe.movq_learning_rate, seed)
    latents, embeds = encoded_scenes(work / "scenes.safetensors", movq, encoder, recipe.scenes, seed)
    zero_image = encoder.encode_images(torch.zeros(1, 3, encoder.image_size, encoder.image_size)).cpu()
    whitening = Whitening.of(embeds)
    embeds, zero_image = whitening(embeds), whitening(zero_image)

    torch.manual_seed(seed)
    unet = unet_model(encoder.dim).train()
    layout = (recipe.layout_steps, recipe.layout_batch_size, recipe.layout_learning_rate)
    layout_seconds = train_layout(work / "layout.pt", unet, latents, embeds, *layout, seed)
    average = copy.deepcopy(unet).requires_grad_(False)
    optimizer, schedule = MuonAndAdamW(unet, recipe.learning_rate), noise_schedule()
    settings = {**asdict(recipe), "seed": seed, "encoder": encoder.tag}
    training = Resumable(work / "unet.pt", settings, unet=unet, average=average, optimizer=optimizer)
    for step in training.steps(recipe.steps):
        generator = generator_of(seed, step)
        rows = torch.randint(len(latents), (recipe.batch_size,), generator=generator)
        dropped = torch.rand(len(rows), 1, generator=generator) < recipe.drop
        loss = denoising_loss(unet, schedule, latents[rows].float(), embeds[rows].where(~dropped, zero_image), generator)
        optimizer.step(loss, min(1, (step + 1) / 100, (recipe.steps - step) / (0.5 * recipe.steps)))
        with torch.no_grad():  # a shorter average at first forgets the random start
            kept = min(recipe.average, (step + 1) / (step + 10))
            torch._foreach_lerp_(list(average.parameters()), list(unet.parameters()), 1 - kept)
        training.report(100, loss=loss.item())
        if (step + 1) * recipe.evaluations % recipe.steps < recipe.evaluations:
            save_pipeline(folder, unwhitened(average, whitening), movq)  # an interrupted run leaves a usable decoder
            add_point(work / "curve.json", step + 1, training.seconds, scored(folder, encoder, recipe.test // 5))
    minutes = {"MoVQ": movq_seconds / 60, "layout": layout_seconds / 60, "UNet": training.seconds / 60}
    write_readme(folder, command, minutes, scored(folder, encoder, recipe.test), read_curve(work / "curve.json"))


def unwhitened(unet: Any, whitening: Whitening) -> Any:
    """Return a copy of the UNet that takes embeddings without whitening."""
    unet = copy.deepcopy(unet)
    whitening.fold_into([unet.add_embedding.image_proj, unet.encoder_hid_proj.image_embeds])
    return unet


def denoising_loss(unet: Any, schedule: Any, latents: Latents, embeds: Embeds, generator: torch.Generator) -> Tensor:
    """Return the squared error of the predicted clean latents, weighted by the root of the signal-to-noise ratio (0.1 to 5).

    The root balances all times, because a trained network's error is about inversely proportional to it. The ratio itself
    (Hang et al. 2023) would give almost no weight to the first steps, which place the objects. Without weights, the first
    steps would dominate.
    """
    count, end = len(latents), len(schedule.alphas_cumprod)
    # Noisy times are drawn more often, because the decoder loses facts there. Stratified draws have less variance.
    shares = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    times = (end * shares.sqrt()).long().clamp_max(end - 1)  # the last share can round to 1
    noise = torch.randn(latents.shape, generator=generator)
    noisy = schedule.add_noise(latents, noise, times)
    predicted = unet(noisy, times, None, added_cond_kwargs={"image_embeds": embeds}).sample[:, : latents.shape[1]]
    signal = schedule.alphas_cumprod[times]
    weight = (signal / (1 - signal)).sqrt().clamp(0.1, 5)
    return (weight * (predicted - latents).pow(2).mean((1, 2, 3))).mean()


def encoded_scenes(path: Path, movq: Any, encoder: Encoder, count: int, seed: int) -> tuple[Latents, Embeds]:
    """Return latents in half precision and image embeddings of the first scenes, computed once and kept in ``path``."""
    made_of = {"scenes": str(count), "seed": str(seed), "encoder": encoder.tag}
    if not path.is_file():
        latents, embeds = [], []
        for first in range(0, count, 250):
            scenes = [encoder_scene(i, seed) for i in range(first, min(first + 250, count))]
            with torch.no_grad():
                latents.append(movq.encode(as_images(scenes)).latents.half())
            embeds.append(encoder.encode_images(normalised(scenes)).cpu())
            if (first + 250) % 10_000 == 0:
                print(f"encoded {first + 250} scenes of {count}", flush=True)
        write_tensors(path, {"latents": torch.cat(latents), "embeds": torch.cat(embeds)}, made_of)
    with safe_open(str(path), "pt") as file:
        if file.metadata() != made_of:
            raise ValueError(f"{path} holds latents of {file.metadata()}, and this run needs {made_of}: remove the file.")
        return file.get_tensor("latents"), file.get_tensor("embeds")


def save_pipeline(folder: Path, unet: Any, movq: Any) -> None:
    """Write the pipeline in half precision, each file atomically. Other files of the folder are kept."""
    from diffusers import KandinskyV22Pipeline

    pipeline = KandinskyV22Pipeline(copy.deepcopy(unet).half(), noise_schedule(), copy.deepcopy(movq).half())
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        pipeline.save_pretrained(temporary)
        for source in sorted(path for path in Path(temporary).rglob("*") if path.is_file()):
            target = folder / source.relative_to(temporary)
            target.parent.mkdir(exist_ok=True)
            source.chmod(0o644)  # safetensors gives access to the owner alone
            os.replace(source, target)
