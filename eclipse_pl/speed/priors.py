"""What `speed` measures of priors: sampling in many steps against its peers, and training of one against the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from eclipse_pl.embedding import ClipSpace, EmbeddingBatch, TextCondition
from eclipse_pl.priors.diffusion import DiffusionPrior
from eclipse_pl.priors.eclipse import EclipsePrior
from eclipse_pl.priors.prior import Prior, gaussian_noise
from eclipse_pl.speed.inputs import CONTEXT, draw_lengths
from eclipse_pl.speed.row import Row, in_turns, training_step


def sampling(name: str, dim: int, device: torch.device, captions: int, tokens: int = 13, **sizes: Any) -> list[Row]:
    """25 steps under guidance 4, in milliseconds a caption, all with the same weights.

    The first peer computes every token of captions and empty prompt at every step, in our own network; the second is the loop
    of KandinskyV22PriorPipeline itself, its captions encoded before the clock runs.
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

    pipeline = KandinskyLoop(prior, text, empty)
    ours, whole, kandinsky = in_turns([lambda: prior.sample(text), plain, pipeline.run], device, repetitions=2)
    return [
        Row(name, 1e3 * ours / captions, 1e3 * whole / captions, "ms"),
        Row(f"{name}/kandinsky", 1e3 * ours / captions, 1e3 * kandinsky / captions, "ms"),
    ]


class KandinskyLoop:
    """KandinskyV22PriorPipeline with the weights of ``prior``, on captions that are encoded already."""

    def __init__(self, prior: DiffusionPrior, text: TextCondition, empty: TextCondition) -> None:
        from diffusers import KandinskyV22PriorPipeline, PriorTransformer, UnCLIPScheduler

        from eclipse_pl.priors.write_released import scheduler_config

        device, heads = text.text_embed.device, prior.network.heads
        network = PriorTransformer(
            heads, prior.network.proj_in.out_features // heads, len(prior.network.transformer_blocks), prior.space.dim
        ).to(device)
        network.load_state_dict(prior.network.state_dict())
        both = TextCondition.join([empty, text])
        mask = torch.arange(CONTEXT, device=device) < both.lengths[:, None]
        states = torch.zeros(len(both), CONTEXT, prior.space.dim, device=device).index_put((mask,), both.text_states)
        parts = {"image_encoder": None, "text_encoder": None, "tokenizer": None, "image_processor": None}
        scheduler = UnCLIPScheduler.from_config(scheduler_config(prior))
        self.pipeline = KandinskyV22PriorPipeline(prior=network, scheduler=scheduler, **parts)
        self.pipeline.set_progress_bar_config(disable=True)
        self.pipeline._encode_prompt = lambda *args: (both.text_embed, states, mask)
        self.pipeline.get_zero_embed = lambda *args, **kwargs: torch.zeros(len(text), prior.space.dim)
        self.prompts, self.guidance_scale = [""] * len(text), prior.guidance_scale

    def run(self) -> None:
        self.pipeline(self.prompts, guidance_scale=self.guidance_scale)


def diffusion_step(name: str, dim: int, device: torch.device, captions: int, **sizes: Any) -> list[Row]:
    """A training step of DiffusionPrior beside EclipsePrior's (the peer): losses, backward pass and AdamW, in milliseconds."""
    torch.manual_seed(0)
    space, text = random_space(dim), random_text(dim, draw_lengths(captions))
    batch = EmbeddingBatch(text, torch.randn(captions, dim), torch.arange(captions)).to(device)
    priors = (DiffusionPrior(space, **sizes), EclipsePrior(space, **sizes))
    ours, eclipse = in_turns([loss_step(prior.to(device).train(), batch) for prior in priors], device, repetitions=7)
    return [Row(name, 1e3 * ours, 1e3 * eclipse, "ms")]


def loss_step(prior: Prior, batch: EmbeddingBatch) -> Callable[[], None]:
    return training_step(prior, lambda: prior.losses(batch)["total"])


def random_space(dim: int) -> ClipSpace:
    space = ClipSpace("speed", dim, dim, CONTEXT, "speed", False, torch.zeros(dim), torch.ones(dim))
    return replace(space, empty_states=torch.randn(2, dim), empty_embed=torch.randn(dim))


def random_text(dim: int, lengths: Int[Tensor, " captions"]) -> TextCondition:
    return TextCondition(torch.randn(len(lengths), dim), torch.randn(int(lengths.sum()), dim), lengths)
