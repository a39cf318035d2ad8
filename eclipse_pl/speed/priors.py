"""Timings of priors: a training step of the network, sampling, and training steps of two priors."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from eclipse_pl.embedding import EmbeddingBatch, TextCondition
from eclipse_pl.priors.diffusion import DiffusionPrior
from eclipse_pl.priors.eclipse import EclipsePrior
from eclipse_pl.priors.network import PriorNetwork
from eclipse_pl.priors.prior import gaussian_noise
from eclipse_pl.speed.inputs import CONTEXT, draw_lengths, padded, random_space, random_text
from eclipse_pl.speed.timing import Timing, in_turns, training_step


def step(name: str, dim: int, device: torch.device, captions: int, layers: int, heads: int, head_dim: int) -> list[Timing]:
    """Time forward pass, squared error, backward pass and AdamW, in float32, in milliseconds.

    Both networks have the time token, which diffusers' class always has. Padding for diffusers happens before the timing. The
    second row is our network with captions of 77 tokens: the difference of both rows is the gain of packing.
    """
    from diffusers import PriorTransformer

    torch.manual_seed(0)
    ours = PriorNetwork(dim, dim, CONTEXT, layers, heads, head_dim, time_embedding=True).to(device)
    peer = PriorTransformer(heads, head_dim, layers, dim).to(device)
    peer.load_state_dict(ours.state_dict())
    for statistic in (peer.clip_mean, peer.clip_std):
        statistic.requires_grad_(False)

    text = random_text(dim, draw_lengths(captions)).to(device)
    states, mask = padded(text)
    full = TextCondition(text.text_embed, states.flatten(0, 1), torch.full_like(text.lengths, CONTEXT))
    noise, image_embed = torch.randn(2, captions, dim, device=device)
    times = torch.randint(0, 1000, (captions,), device=device)

    def peer_forward() -> Tensor:
        predicted: Tensor = peer(noise, times, text.text_embed, states, mask).predicted_image_embedding
        return predicted

    packed, unpacked, reference = in_turns(
        [
            training_step(ours, lambda: F.mse_loss(ours(noise, text, times), image_embed)),
            training_step(ours, lambda: F.mse_loss(ours(noise, full, times), image_embed)),
            training_step(peer, lambda: F.mse_loss(peer_forward(), image_embed)),
        ],
        device,
    )
    return [
        Timing(name, 1e3 * packed, 1e3 * reference, "ms"),
        Timing(f"{name}/padded-{CONTEXT}", 1e3 * unpacked, 1e3 * reference, "ms"),
    ]


def sampling(name: str, dim: int, device: torch.device, captions: int, tokens: int = 13, **sizes: Any) -> list[Timing]:
    """Time 25 steps under guidance 4, in milliseconds per caption, with the same weights.

    The first peer is our network without its savings: it computes every token of captions and empty prompt at every step. The
    second peer is the loop of KandinskyV22PriorPipeline with encoded captions.
    """
    torch.manual_seed(0)
    prior = DiffusionPrior(random_space(dim), **sizes).to(device).eval()
    text = random_text(dim, torch.full((captions,), tokens)).to(device)
    empty = text.replaced(torch.ones(captions, dtype=torch.bool, device=device), prior.space.empty_prompt().to(device))

    def every_token(noisy: Float[Tensor, "batch dim"], time: Int[Tensor, " batch"]) -> Float[Tensor, "batch dim"]:
        unconditional: Tensor = prior.network(noisy, empty, time)
        return unconditional + prior.guidance_scale * (prior.network(noisy, text, time) - unconditional)

    @torch.no_grad()
    def plain() -> None:
        for _ in prior.schedule.denoise(every_token, gaussian_noise(text.text_embed), prior.timesteps, prior.eta, prior.clamp):
            pass

    loop = KandinskyLoop(prior, text, empty)
    ours, whole, kandinsky = in_turns([lambda: prior.sample(text), plain, loop], device, repetitions=2)
    return [
        Timing(name, 1e3 * ours / captions, 1e3 * whole / captions, "ms"),
        Timing(f"{name}/kandinsky", 1e3 * ours / captions, 1e3 * kandinsky / captions, "ms"),
    ]


class KandinskyLoop:
    """KandinskyV22PriorPipeline with the weights of ``prior``, on encoded captions."""

    def __init__(self, prior: DiffusionPrior, text: TextCondition, empty: TextCondition) -> None:
        from diffusers import KandinskyV22PriorPipeline, PriorTransformer, UnCLIPScheduler

        from eclipse_pl.priors.write_released import scheduler_config

        heads, dim = prior.network.heads, prior.space.dim
        head_dim, layers = prior.network.proj_in.out_features // heads, len(prior.network.transformer_blocks)
        network = PriorTransformer(heads, head_dim, layers, dim).to(text.text_embed.device)
        network.load_state_dict(prior.network.state_dict())
        both = TextCondition.join([empty, text])
        states, mask = padded(both)
        parts = {"image_encoder": None, "text_encoder": None, "tokenizer": None, "image_processor": None}
        scheduler = UnCLIPScheduler.from_config(scheduler_config(prior))
        self.pipeline = KandinskyV22PriorPipeline(prior=network, scheduler=scheduler, **parts)
        self.pipeline.set_progress_bar_config(disable=True)
        self.pipeline._encode_prompt = lambda *args: (both.text_embed, states, mask)
        self.pipeline.get_zero_embed = lambda *args, **kwargs: torch.zeros(len(text), dim)
        self.prompts, self.guidance_scale = [""] * len(text), prior.guidance_scale

    def __call__(self) -> None:
        self.pipeline(self.prompts, guidance_scale=self.guidance_scale)


def diffusion_step(name: str, dim: int, device: torch.device, captions: int, **sizes: Any) -> list[Timing]:
    """Time losses, backward pass and AdamW of DiffusionPrior against EclipsePrior (the peer), in milliseconds."""
    torch.manual_seed(0)
    space, text = random_space(dim), random_text(dim, draw_lengths(captions))
    batch = EmbeddingBatch(text, torch.randn(captions, dim), torch.arange(captions)).to(device)
    diffusion, eclipse = (kind(space, **sizes).to(device).train() for kind in (DiffusionPrior, EclipsePrior))
    ours, peer = in_turns(
        [
            training_step(diffusion, lambda: diffusion.losses(batch)["total"]),
            training_step(eclipse, lambda: eclipse.losses(batch)["total"]),
        ],
        device,
        repetitions=7,
    )
    return [Timing(name, 1e3 * ours, 1e3 * peer, "ms")]
