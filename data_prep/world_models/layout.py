"""First stage of the world's UNet: predict the rough layout of an image from its embedding alone.

The first step of denoising has no other input. The UNet's lowest level learns it without the finer levels, at a third of a
whole step's cost.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle

from data_prep.world_models.muon import MuonAndAdamW
from data_prep.world_models.resumable import Resumable, generator_of

NOISES = 512
Latents = Float[Tensor, "scenes channels high wide"]
Features = Float[Tensor, "scenes features low low"]
Embeds = Float[Tensor, "scenes dim"]


def train_layout(
    path: Path, unet: Any, latents: Latents, embeds: Embeds, steps: int, batch_size: int, learning_rate: float, seed: int
) -> float:
    """Train the UNet's lowest level and its embedding layers to predict the latents. Return the CPU time in seconds.

    A temporary convolution turns each place of the lowest level into its square of latents.
    """
    features = features_of_noise(unet, embeds[:NOISES], torch.Generator().manual_seed(seed))
    square = latents.shape[2] // features.shape[2]
    head = squares(unet, square)
    optimizer = MuonAndAdamW(nn.ModuleDict({"unet": unet, "head": head}), learning_rate)
    settings = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed}
    training = Resumable(path, settings, unet=unet, head=head, optimizer=optimizer)
    for step in training.steps(steps):
        generator = generator_of(seed, step)
        rows = torch.randint(len(latents), (batch_size,), generator=generator)
        noise = features[torch.randint(len(features), (batch_size,), generator=generator)]
        predicted = head(lowest_level(unet, noise, embeds[rows]))
        loss = (predicted - pixel_unshuffle(latents[rows].float(), square)).pow(2).mean()
        optimizer.step(loss, min(1, (step + 1) / 100, (steps - step) / (0.4 * steps)))
        training.report(100, loss=loss.item())
    return training.seconds


def squares(unet: Any, side: int) -> nn.Module:
    """Return the network from features of the lowest level to ``side`` x ``side`` latents each."""
    width, groups = unet.config.block_out_channels[-1], unet.config.norm_num_groups
    return nn.Sequential(nn.GroupNorm(groups, width), nn.SiLU(), nn.Conv2d(width, unet.config.in_channels * side**2, 1))


@torch.no_grad()
def features_of_noise(unet: Any, embeds: Embeds, generator: torch.Generator) -> Features:
    """Return the features of pure noise at the input of the lowest level, before training."""
    entered = []
    hook = unet.down_blocks[-1].register_forward_pre_hook(
        lambda block, args, options: entered.append(options["hidden_states"]), with_kwargs=True
    )
    shape = (len(embeds), unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    unet(torch.randn(shape, generator=generator), 999, None, added_cond_kwargs={"image_embeds": embeds})
    hook.remove()
    return entered[0]


def lowest_level(unet: Any, features: Features, embeds: Embeds) -> Features:
    """Run the lowest level at the first step of denoising."""
    time = unet.time_embedding(unet.time_proj(torch.full((len(embeds),), 999)))
    units, tokens = time + unet.add_embedding(embeds), unet.encoder_hid_proj(embeds)
    hidden, skips = unet.down_blocks[-1](features, units, tokens)
    hidden = unet.mid_block(hidden, units, encoder_hidden_states=tokens)
    skips, block = [features, *skips], unet.up_blocks[0]
    for resnet, attention in zip(block.resnets, block.attentions, strict=True):
        hidden = attention(resnet(torch.cat([hidden, skips.pop()], 1), units), encoder_hidden_states=tokens)
    return hidden
