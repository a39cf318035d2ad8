"""Timings of priors: sampling, and the training step of one prior against that of another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from eclipse_pl.embedding import ClipSpace, EmbeddingBatch, TextCondition
from eclipse_pl.priors.diffusion import DiffusionPrior
from eclipse_pl.priors.eclipse import EclipsePrior
from eclipse_pl.priors.flow import FlowPrior
from eclipse_pl.priors.mean_flow import MeanFlowPrior
from eclipse_pl.priors.prior import Prior, gaussian_noise
from eclipse_pl.speed.inputs import draw_lengths, padded, random_space, random_text
from eclipse_pl.speed.timing import Timing, autocast, in_turns, training_step


def one_pass(name: str, dim: int, device: torch.device, captions: int, **sizes: Any) -> list[Timing]:
    """Time one-pass sampling in milliseconds per caption, against one forward pass of diffusers' network.

    diffusers' network is as large, but for its time token, and reads captions that are padded to 77 tokens, as ECLIPSE's own
    inference code does.
    """
    from diffusers import PriorTransformer

    torch.manual_seed(0)
    prior = EclipsePrior(random_space(dim), **sizes).to(device).eval()
    network = prior.network
    inner, layers = network.proj_in.out_features, len(network.transformer_blocks)
    peer = PriorTransformer(network.heads, inner // network.heads, layers, dim).to(device).eval()
    text = random_text(dim, draw_lengths(captions)).to(device)
    states, mask = padded(text)

    @torch.no_grad()
    def peer_sample() -> None:
        peer(gaussian_noise(text.text_embed), 0, text.text_embed, states, mask)

    ours, theirs = in_turns([with_autocast(lambda: prior.sample(text), device), with_autocast(peer_sample, device)], device)
    return [Timing(name, 1e3 * ours / captions, 1e3 * theirs / captions, "ms", {"samples_per_second": captions / ours})]


def from_captions(name: str, device: torch.device, captions: int, **sizes: Any) -> list[Timing]:
    """Time captions to image embeddings of the world in milliseconds per caption, against the bare tower and network.

    The peer has the token ids and the noise already.
    """
    from eclipse_pl.world.encoder import WorldEncoder
    from eclipse_pl.world.scenes import COLOURS, SHAPES

    torch.manual_seed(0)
    encode = WorldEncoder(device=str(device))
    space = encode.space(torch.zeros(encode.dim), torch.ones(encode.dim))
    prior = EclipsePrior(space, **sizes).to(device).eval()
    things = [f"a {colour} {shape}" for colour in COLOURS for shape in SHAPES]
    texts = [f"{things[number % len(things)]} left of {things[(7 * number + 3) % len(things)]}" for number in range(captions)]
    tokens = encode.tokenize(texts)
    noise = gaussian_noise(encode(texts).text_embed)

    @torch.no_grad()
    def bare() -> None:
        prior.network(noise, encode.encode_tokens(tokens))

    ours, theirs = in_turns([lambda: prior.sample(encode(texts), torch.Generator().manual_seed(0)), bare], device)
    return [Timing(name, 1e3 * ours / captions, 1e3 * theirs / captions, "ms", {"samples_per_second": captions / ours})]


def with_autocast(function: Callable[[], object], device: torch.device) -> Callable[[], None]:
    """``function`` in the precision of training."""

    def call() -> None:
        with autocast(device):
            function()

    return call


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
    functions = [with_autocast(function, device) for function in (lambda: prior.sample(text), plain, loop)]
    ours, whole, kandinsky = in_turns(functions, device, repetitions=2)
    return [
        Timing(name, 1e3 * ours / captions, 1e3 * whole / captions, "ms", {"samples_per_second": captions / ours}),
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


def step_against(
    name: str,
    prior: Callable[[ClipSpace], Prior],
    peer: Callable[[ClipSpace], Prior],
    dim: int,
    device: torch.device,
    captions: int,
) -> Timing:
    """Time losses, backward pass and AdamW of a prior against those of another one on the same batch, in milliseconds.

    On a GPU both train in bfloat16 by autocast.
    """
    torch.manual_seed(0)
    space, text = random_space(dim), random_text(dim, draw_lengths(captions))
    batch = EmbeddingBatch(text, torch.randn(captions, dim), torch.arange(captions)).to(device)
    ours, theirs = in_turns([_step(make(space).to(device), batch) for make in (prior, peer)], device, repetitions=7)
    return Timing(name, 1e3 * ours, 1e3 * theirs, "ms")


def _step(prior: Prior, batch: EmbeddingBatch) -> Callable[[], None]:
    prior.train()
    return training_step(prior, lambda: prior.losses(batch)["total"])


def objectives(space: str, dim: int, device: torch.device, captions: int, **sizes: Any) -> Iterator[Timing]:
    """Time a training step of each objective against that of a simpler one, with the same network."""
    projection = partial(EclipsePrior, contrastive_weight=0.0, **sizes)
    energy = partial(projection, projection="energy", samples=2)
    diffusion, flow, mean_flow = (partial(kind, **sizes) for kind in (DiffusionPrior, FlowPrior, MeanFlowPrior))
    yield step_against(f"energy/step/{space}", energy, projection, dim, device, captions)
    yield step_against(f"flow/step/{space}", flow, diffusion, dim, device, captions)
    yield step_against(f"mean_flow/step/{space}", mean_flow, flow, dim, device, captions)
