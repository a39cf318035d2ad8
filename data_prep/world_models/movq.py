"""The latent space of the world's decoder: a small MoVQ, an autoencoder whose decoder is normalised by the latents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from data_prep.world_models.resumable import Resumable, generator_of
from eclipse_pl.world.drawing import pixels
from eclipse_pl.world.scenes import Scene
from eclipse_pl.world.splits import encoder_scene

CHANNELS = 8
SIDE = 16  # latents of 16 x 16 for images of 64 x 64
NOISE = 0.3  # of the latents' unit variance, at most


def movq_model() -> Any:
    """Return a MoVQ with Kandinsky's spatial norm and a hundredth of its parameters.

    The codebook is not trained, because KandinskyV22Pipeline decodes latents without it. Noise in training makes neighbouring
    latents decode alike instead.
    """
    from diffusers import VQModel

    return VQModel(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 32, 32),  # diffusers' spatial norm has 32 groups
        layers_per_block=0,  # none in the encoder, one in the decoder: half the time of one and two, with the same error
        latent_channels=CHANNELS,
        norm_num_groups=8,
        num_vq_embeddings=16,
        norm_type="spatial",
        mid_block_add_attention=False,
        sample_size=64,
    )


def train_movq(work: Path, steps: int, batch_size: int, learning_rate: float, seed: int) -> tuple[Any, float]:
    """Train a MoVQ with noisy latents of mean 0 and variance 1 per channel. Return it and its CPU time in seconds."""
    torch.manual_seed(seed)
    movq = movq_model().train()
    optimizer = torch.optim.AdamW(movq.parameters(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    recipe = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed}
    training = Resumable(work / "movq.pt", recipe, movq=movq, optimizer=optimizer)
    # A CPU without bfloat16 emulates it, which takes seven times as long as float32.
    bfloat16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    for step in training.steps(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / steps))
        generator = generator_of(seed, step)
        images = as_images([encoder_scene(step * batch_size + i, seed) for i in range(batch_size)])
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            latents = movq.encode(images).latents.float()
            noise = torch.randn(latents.shape, generator=generator) * torch.rand(batch_size, 1, 1, 1, generator=generator)
            generated = movq.decode(latents + NOISE * noise, force_not_quantize=True).sample.float()
        # Absolute errors make edges sharp. Squared errors keep dots, which are no pixel's median.
        error = (generated - images).abs().mean() + (generated - images).pow(2).mean()
        moments = (latents.mean((0, 2, 3)) ** 2 + (latents.var((0, 2, 3)) - 1) ** 2).mean()
        optimizer.zero_grad()
        (error + 0.1 * moments).backward()
        torch.nn.utils.clip_grad_norm_(movq.parameters(), 1.0)
        optimizer.step()
        training.report(100, error=error.item())
    return movq.eval().requires_grad_(False), training.seconds


def as_images(scenes: Sequence[Scene]) -> Float[Tensor, "batch 3 64 64"]:
    """Return images from -1 to 1, the input of a MoVQ."""
    return torch.from_numpy(np.stack([pixels(scene) for scene in scenes])).permute(0, 3, 1, 2).float() / 127.5 - 1
