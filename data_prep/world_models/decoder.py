"""The world's decoder: a `KandinskyV22Pipeline`, trained as Kandinsky 2.2's was, at a size for one CPU core.

Four stages: a MoVQ (world_movq.py); latents and image embeddings of many scenes, computed once; a UNet that learns first what
lies roughly where (world_layout.py), and then to denoise the latents, given the embedding.
"""

from __future__ import annotations

import copy
import os
import shutil
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
from data_prep.world_models.whitening import Whitening
from data_prep.writing import write_tensors
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.world.splits import encoder_scene


@dataclass(frozen=True)
class DecoderRecipe:
    """How the decoder is trained.

    Args:
        movq_steps: optimiser steps of the MoVQ.
        movq_batch_size: images a step, never seen before.
        movq_learning_rate: highest, after 100 steps; then it falls to 0 as half a cosine.
        scenes: whose latents and embeddings the UNet is trained on.
        layout_steps: optimiser steps of the UNet's lowest level alone.
        layout_batch_size: latents a step.
        layout_learning_rate: after 100 steps; it falls linearly to 0 over the last two fifths.
        steps: optimiser steps of the whole UNet.
        batch_size: latents a step.
        learning_rate: after 100 steps; it falls linearly to 0 over the second half.
        drop: share of embeddings replaced by that of the all-zero image, for guidance.
        average: decay of the weights' moving average, which is what is kept.
        evaluations: points of the curve, evenly spaced.
        test: images of the test split at the end; at each point of the curve a fifth of them.
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
    """Kandinsky 2.2's UNet with fewer channels and layers.

    Three levels: at 4 x 4 latents the zero padding of the convolutions tells every place apart, which places objects.
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
    # The pipeline expects a variance beside the prediction, and drops it unless the scheduler asks for it: it stays zero.
    with torch.no_grad():
        unet.conv_out.weight[CHANNELS:] = 0
        unet.conv_out.bias[CHANNELS:] = 0
    return unet


def noise_schedule() -> Any:
    """Cosine schedule to pure noise, the clean latents as the prediction target; 20 steps of DDPM generate with it.

    Ancestral steps correct each other's mistakes: the oracle reads more colours and shapes right than with DDIM.
    """
    from diffusers import DDPMScheduler

    return DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="sample", clip_sample=False, timestep_spacing="trailing"
    )


def train_decoder(folder: Path, encoder: Encoder, work: Path, recipe: DecoderRecipe, seed: int, command: str) -> None:
    """Write ``folder`` as a pipeline with its README. What is in progress lies in ``work``, and a killed run goes on there."""
    movq, movq_seconds = train_movq(work, recipe.movq_steps, recipe.movq_batch_size, recipe.movq_learning_rate, seed)
    latents, embeds = encoded_scenes(work / "scenes.safetensors", movq, encoder, recipe.scenes, seed)
    zero_image = encoder.encode_images(torch.zeros(1, 3, encoder.image_size, encoder.image_size)).cpu()
    whitening = Whitening(embeds)
    embeds, zero_image = whitening(embeds), whitening(zero_image)

    torch.manual_seed(seed)
    unet = unet_model(encoder.dim).train()
    layout = (recipe.layout_steps, recipe.layout_batch_size, recipe.layout_learning_rate)
    layout_seconds = train_layout(work / "layout.pt", unet, latents, embeds, *layout, seed)
    average = copy.deepcopy(unet).requires_grad_(False)
    optimizer, schedule = MuonAndAdamW(unet, recipe.learning_rate), noise_schedule()
    settings = {**asdict(recipe), "seed": seed, "encoder": encoder.tag}
    run = Resumable(work / "unet.pt", settings, unet=unet, average=average, optimizer=optimizer)
    for step in run.steps(recipe.steps):
        generator = generator_of(seed, step)
        rows = torch.randint(len(latents), (recipe.batch_size,), generator=generator)
        dropped = torch.rand(len(rows), 1, generator=generator) < recipe.drop
        loss = denoising_loss(unet, schedule, latents[rows].float(), embeds[rows].where(~dropped, zero_image), generator)
        optimizer.step(loss, min(1, (step + 1) / 100, (recipe.steps - step) / (0.5 * recipe.steps)))
        with torch.no_grad():  # shorter at first, so that the random start is forgotten
            kept = min(recipe.average, (step + 1) / (step + 10))
            torch._foreach_lerp_(list(average.parameters()), list(unet.parameters()), 1 - kept)
        run.report(100, loss=loss.item())
        if (step + 1) * recipe.evaluations % recipe.steps < recipe.evaluations:
            save_pipeline(folder, unwhitened(average, whitening), movq)  # an interrupted run leaves a decoder that works
            add_point(work / "curve.json", step + 1, run.seconds, scored(folder, encoder, recipe.test // 5))
    minutes = {"MoVQ": movq_seconds / 60, "layout": layout_seconds / 60, "UNet": run.seconds / 60}
    write_readme(folder, command, minutes, scored(folder, encoder, recipe.test), read_curve(work / "curve.json"))


def unwhitened(unet: Any, whitening: Whitening) -> Any:
    """A copy that takes embeddings as they are."""
    unet = copy.deepcopy(unet)
    whitening.fold_into([unet.add_embedding.image_proj, unet.encoder_hid_proj.image_embeds])
    return unet


def denoising_loss(unet: Any, schedule: Any, latents: Latents, embeds: Embeds, generator: torch.Generator) -> Tensor:
    """Squared error of the predicted clean latents, weighted by the root of the signal-to-noise ratio, from 0.1 to 5.

    A trained network's error falls about as that root rises, so images of all times count alike. Weighted by the ratio
    itself (Hang et al. 2023), the first steps, in which the embedding decides what is generated and where, would count for
    nothing; unweighted, they drown the others.
    """
    count, end = len(latents), len(schedule.alphas_cumprod)
    # Facts are lost at the noisy half of the times (images generated on from true latents at half time keep nearly all), so
    # a time's chance grows with it. One from each of equal shares: less variance than independent times.
    shares = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    times = (end * shares.sqrt()).long().clamp_max(end - 1)  # the last share can round to 1
    noise = torch.randn(latents.shape, generator=generator)
    noisy = schedule.add_noise(latents, noise, times)
    predicted = unet(noisy, times, None, added_cond_kwargs={"image_embeds": embeds}).sample[:, : latents.shape[1]]
    signal = schedule.alphas_cumprod[times]
    weight = (signal / (1 - signal)).sqrt().clamp(0.1, 5)
    return (weight * (predicted - latents).pow(2).mean((1, 2, 3))).mean()


def encoded_scenes(path: Path, movq: Any, encoder: Encoder, count: int, seed: int) -> tuple[Latents, Embeds]:
    """Latents in half precision and image embeddings of the first scenes, from ``path`` where they were computed before."""
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
            raise ValueError(f"{path} holds latents of {file.metadata()}, and this run needs {made_of}: remove it.")
        return file.get_tensor("latents"), file.get_tensor("embeds")


def save_pipeline(folder: Path, unet: Any, movq: Any) -> None:
    """In half precision, whole or not at all, beside whatever else lies in the folder."""
    from diffusers import KandinskyV22Pipeline

    temporary = folder.with_name(folder.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)
    pipeline = KandinskyV22Pipeline(copy.deepcopy(unet).half(), noise_schedule(), copy.deepcopy(movq).half())
    pipeline.save_pretrained(temporary)
    folder.mkdir(parents=True, exist_ok=True)
    for source in sorted(path for path in temporary.rglob("*") if path.is_file()):
        place = folder / source.relative_to(temporary)
        place.parent.mkdir(exist_ok=True)
        source.chmod(0o644)  # safetensors writes for the owner alone
        os.replace(source, place)
    shutil.rmtree(temporary)
