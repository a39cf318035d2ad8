"""FlowPrior: rectified flow from noise to image embedding, the objective of BLIP3-o, on ECLIPSE's network."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from eclipse_pl.arguments import one_of, require_whole
from eclipse_pl.embedding import ClipSpace, EmbeddingBatch, TextCondition, condition_of
from eclipse_pl.priors.flow_path import FlowPath, FlowPrediction, FlowSchedule, Sampler, SigmaDistribution
from eclipse_pl.priors.guided import GuidedPrior, network_with_time
from eclipse_pl.priors.open_saved import open_saved
from eclipse_pl.priors.prior import gaussian_noise
from eclipse_pl.priors.standardised import Standardise
from eclipse_pl.priors.text_source import TextSource, gaussian_sample, kl_to_standard_normal

Source = Literal["noise", "text"]


class FlowPrior(GuidedPrior):
    """Rectified flow (Liu et al. 2023) between Gaussian noise and image embeddings, on the network of `DiffusionPrior`.

    BLIP3-o (Chen et al. 2025, 2505.09568) predicts CLIP features in this way: velocity, uniform sigma, condition dropout 0.1,
    30 Euler steps, guidance 3. It drops a condition to zeros; here it is the encoded empty prompt, as in `DiffusionPrior`.
    "Ours" marks a default of this project.

    Args:
        space: CLIP space of captions and image embeddings; it gives all widths, the statistics and the empty prompt.
        num_layers: Number of transformer blocks. ECLIPSE: 10.
        num_attention_heads: Heads of each block. ECLIPSE: 16.
        attention_head_dim: Width of each head. ECLIPSE: 32.
        prediction: Quantity that the network predicts: "velocity" (BLIP3-o) or "x0", the clean embedding. The loss compares
            velocities in both cases; see `FlowPath.squared_error`.
        schedule: Coordinates of the network's inputs; see `FlowPath`. "flow" (BLIP3-o) reads z and 1000 sigma. "cosine" and
            "linear" read what a DiffusionPrior of this schedule reads. With x0 its weights, or those of a released prior,
            can start this prior (``weights``), and this prior can be exported for diffusers' pipelines.
        num_train_timesteps: Steps of the time that the network reads.
        sigma: Distribution of sigma in training: "uniform" (BLIP3-o) or "logit_normal" (Esser et al. 2024).
        shift: Shift of sigma in training and sampling; see `FlowPath`. Ours: 1. For one vector the rule of RAE (Zheng et al.
            2025), ``sqrt(dim / 4096)``, is below 1, which it excludes.
        condition_dropout: Fraction of captions that training replaces by the empty prompt. Guidance needs it.
        standardise: What the network predicts: "diagonal", embeddings standardised by the space's mean and standard deviation;
            "full", embeddings whitened by its covariance; "none", raw ones. With raw embeddings their norm changes the effect
            of sigma.
        steps: Number of sampling steps, any number. Ours: 25, as for DiffusionPrior. From noise and without guidance, one
            Euler step predicts the mean image embedding of the caption, as projection-only does.
        guidance_scale: Scale w of ``empty + w (caption - empty)``. 1 means no guidance. BLIP3-o: 3.
        sampler: "euler" (BLIP3-o), "heun" (second order; two calls of the network a step, but one in the last) or
            "stochastic" (fresh noise at each step); see `FlowPath.denoise`.
        clamp: Bound of every number of the predicted clean embedding in sampling; null sets no bound.
        source: Where the flow begins: "noise", and the network reads the caption; or "text", a sample of a Gaussian of the
            caption, and the network reads no caption (CrossFlow, Liu et al. 2025, 2412.15213); see `TextSource`. For guidance
            training leads the fraction ``condition_dropout`` of the captions to the image of another pair.
        source_layers: Blocks of the network that turns a caption into the mean of that Gaussian; null takes 2. Ours.
        kl_weight: Weight of the KL divergence of that Gaussian from N(0, I), the mean over dimensions; null takes 0.1. Ours:
            CrossFlow's weight belongs to latents of images. With 0 the source may lose its variance, and then all samples of
            a caption are equal.
        weights: Initial weights: a run, one of its checkpoints, or a released prior; see `open_saved`.

    Raises:
        ValueError: A value is not valid, or the space lacks the empty prompt or the statistics that these options need.
    """

    def __init__(
        self,
        space: ClipSpace,
        num_layers: int = 10,
        num_attention_heads: int = 16,
        attention_head_dim: int = 32,
        prediction: FlowPrediction = "velocity",
        schedule: FlowSchedule = "flow",
        num_train_timesteps: int = 1000,
        sigma: SigmaDistribution = "uniform",
        shift: float = 1.0,
        condition_dropout: float = 0.1,
        standardise: Standardise = "diagonal",
        steps: int = 25,
        guidance_scale: float = 3.0,
        sampler: Sampler = "euler",
        clamp: float | None = None,
        source: Source = "noise",
        source_layers: int | None = None,
        kl_weight: float | None = None,
        weights: str | None = None,
    ) -> None:
        require_source(source, source_layers, kl_weight, sampler, schedule)
        network = network_with_time(space, num_layers, num_attention_heads, attention_head_dim)
        reads = source == "noise"
        super().__init__(space, network, condition_dropout, standardise, guidance_scale, clamp, reads)
        one_of("sigma", sigma, get_args(SigmaDistribution))
        self.sigma_distribution = sigma
        self.path = FlowPath(prediction, schedule, num_train_timesteps, shift)
        self.source, self.kl_weight = source, 0.1 if kl_weight is None else kl_weight
        sizes = (2 if source_layers is None else source_layers, num_attention_heads, attention_head_dim)
        self.text_source = TextSource(space, *sizes) if source == "text" else None
        self.sample_with(steps, sampler=sampler)
        if weights is not None:
            open_saved(weights).fill(self)

    def sample_with(
        self, steps: int | None = None, guidance_scale: float | None = None, sampler: Sampler | None = None
    ) -> None:
        """Set the options of the sampler; None keeps the present value. The weights stay as they are.

        Raises:
            ValueError: A value is not valid, or guidance lacks the empty prompt.
        """
        super().sample_with(steps, guidance_scale)
        if sampler is not None:
            one_of("sampler", sampler, get_args(Sampler))
            require_source(self.source, None, None, sampler, self.path.schedule)
            self.sampler = sampler

    def set_steps(self, steps: int) -> None:
        self.sigmas = self.path.sigmas(steps)

    @property
    def trained_for(self) -> dict[str, str | int | float | bool]:
        path = self.path
        rule: dict[str, str | int | float | bool] = {"prediction": path.prediction, "schedule": path.schedule}
        return rule | {"num_train_timesteps": path.steps, "source": self.source}

    @property
    def sampling(self) -> dict[str, int | float | str]:
        return {"steps": len(self.sigmas) - 1, "guidance_scale": self.guidance_scale, "sampler": self.sampler}

    @property
    def forward_passes(self) -> int:
        steps = len(self.sigmas) - 1
        return (2 * steps - 1 if self.sampler == "heun" else steps) * self.passes_a_call

    def losses(self, batch: EmbeddingBatch) -> dict[str, Tensor]:
        """``flow``: mean squared error of the velocity at random sigmas (Liu et al. 2023, Eq. 1).

        With a text source also ``kl``, the KL divergence of the source, before its weight.

        Raises:
            ValueError: Guidance of a text source is trained, and the batch has no image of another pair.
        """
        embed = self.network.standardise(batch.image_embed)
        sigma = self.path.draw(len(batch), self.sigma_distribution, embed.device)
        noise = gaussian_noise(embed)
        if self.text_source is None:
            flow = self._flow(embed, noise, sigma, self.dropped(batch.text))
            return {"flow": flow, "total": flow}
        captioned = torch.ones(len(batch), dtype=torch.bool, device=embed.device)
        if self.training and self.condition_dropout:
            if len(batch) == 1:
                raise ValueError(
                    "source is 'text', and a batch of 1 pair has no image of another pair, which guidance needs. Give each "
                    "process 2 pairs or more (data.batch_size), or set condition_dropout to 0 and guidance_scale to 1."
                )
            captioned = torch.rand(len(batch), device=embed.device) >= self.condition_dropout
        mean, log_variance = self.text_source(batch.text)
        target = torch.where(captioned[:, None], embed, embed.roll(1, 0))
        source, kl = gaussian_sample(mean, log_variance, noise), kl_to_standard_normal(mean, log_variance)
        flow = self._flow(target, source, sigma, self.text_source.condition(captioned))
        return {"flow": flow, "kl": kl, "total": flow + self.kl_weight * kl}

    def _flow(
        self,
        embed: Float[Tensor, "batch dim"],
        source: Float[Tensor, "batch dim"],
        sigma: Float[Tensor, " batch"],
        condition: TextCondition,
    ) -> Float[Tensor, ""]:
        noisy, time = self.path.read(self.path.mix(embed, source, sigma), sigma)
        return self.path.squared_error(self.network(noisy, condition, time), embed, source, sigma)

    def empty_prompt(self, like: TextCondition) -> TextCondition:
        """What the network reads without a caption."""
        if self.text_source is None:
            return super().empty_prompt(like)
        return self.text_source.condition(torch.zeros(1, dtype=torch.bool, device=like.text_embed.device))

    @torch.no_grad()
    def sample(
        self,
        text: TextCondition | EmbeddingBatch,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> Float[Tensor, "batch dim"]:
        """Start from Gaussian noise, or from a sample of the caption's Gaussian, and follow the flow in ``steps`` steps.

        The generator draws the initial noise, or that of the caption's sample. The stochastic sampler also draws the noise of
        each step from it.
        """
        text = condition_of(text)
        noise = self.noise_for(text, generator)
        if self.text_source is not None:
            mean, log_variance = self.text_source(text)
            noise = gaussian_sample(mean, log_variance, noise)
            text = self.text_source.condition(torch.ones(len(text), dtype=torch.bool, device=noise.device))
        *_, embed = self.path.denoise(self.guided(text), noise, self.sigmas, self.sampler, self.clamp, generator)
        return self.network.raw(embed).float()


def require_source(source: str, layers: int | None, kl_weight: float | None, sampler: str, schedule: str) -> None:
    """Raise ValueError if the options of a source do not go together."""
    one_of("source", source, get_args(Source))
    if source == "noise":
        for name, value in (("source_layers", layers), ("kl_weight", kl_weight)):
            if value is not None:
                raise ValueError(
                    f"{name} is {value}, but source is 'noise', which has none. Set it to null, or source to text."
                )
        return
    if layers is not None:
        require_whole("source_layers", layers, 1, " (null: 2)")
    if kl_weight is not None and not 0 <= kl_weight < math.inf:
        raise ValueError(f"kl_weight is {kl_weight}; it must be 0 or more (null: 0.1).")
    if sampler == "stochastic":
        raise ValueError("sampler is 'stochastic', which adds Gaussian noise, but source is 'text'. Choose euler or heun.")
    if schedule != "flow":
        raise ValueError(
            f"schedule is {schedule!r}, the coordinates of a diffusion prior, which begins at noise; source is 'text'. Set "
            "schedule to flow."
        )
