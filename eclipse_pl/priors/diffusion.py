from __future__ import annotations

import math
import warnings

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from eclipse_pl.embedding import ClipSpace, EmbeddingBatch, TextCondition, condition_of
from eclipse_pl.priors.network import PriorNetwork
from eclipse_pl.priors.open_saved import open_saved
from eclipse_pl.priors.prior import Prior, gaussian_noise
from eclipse_pl.priors.schedule import Curve, NoiseSchedule, Predict, Prediction, Spacing


class DiffusionPrior(Prior):
    """unCLIP's diffusion prior (Ramesh et al. 2022, section 2.2) on ECLIPSE's network with a time token.

    This is the "Diffusion-Baseline" of the ECLIPSE paper. With 20 layers of 32 heads of 64 it is the prior of Karlo and
    Kandinsky 2.2. The paper states for its baseline: the size and settings of ECLIPSE, "linear scheduler", 1,000 DDPM steps
    and x0 prediction. It samples in 25 steps with guidance 4. For everything else the default is that of the published priors.

    Args:
        space: CLIP space of captions and image embeddings; it gives all widths, the statistics and the empty prompt.
        num_layers: Number of transformer blocks. Paper: 10; published priors: 20.
        num_attention_heads: Heads of each block. Paper: 16; published priors: 32.
        attention_head_dim: Width of each head. Paper: 32; published priors: 64.
        schedule: Noise schedule: "cosine", as in all published priors, or "linear", as in the paper.
        num_train_timesteps: Number of steps of the forward process.
        prediction: Quantity that the network predicts: "x0", "eps" or "v".
        condition_dropout: Fraction of captions that training replaces by the empty prompt. Guidance needs it. DALLE2-pytorch's
            example has 0.1; Karlo's config has 0.2.
        standardise: Standardise embeddings by the space's mean and standard deviation, as published priors do. Without it the
            norm of the embeddings changes the effect of the noise schedule.
        steps: Number of sampling steps. With guidance each step takes two forward passes.
        guidance_scale: Scale w of ``empty + w (caption - empty)`` (Ho & Salimans 2022, scaled as in Imagen, Eq. 2). 1 means
            no guidance.
        eta: Noise of the sampler: 1 is DDPM, 0 is DDIM; see `NoiseSchedule`.
        clamp: Bound of every number of the predicted clean embedding in sampling; null sets no bound. The code of Karlo and
            Kandinsky has 10 (standard deviations).
        spacing: Choice of the training steps that the sampler visits; see `NoiseSchedule.timesteps`.
        weights: Initial weights: a run, one of its checkpoints, or a released prior; see `open_saved`.

    Raises:
        ValueError: A value is not valid, or the space lacks the empty prompt or the statistics that these options need.
    """

    empty_embed: Float[Tensor, " dim"] | None
    empty_states: Float[Tensor, "tokens width"] | None

    def __init__(
        self,
        space: ClipSpace,
        num_layers: int = 10,
        num_attention_heads: int = 16,
        attention_head_dim: int = 32,
        schedule: Curve = "cosine",
        num_train_timesteps: int = 1000,
        prediction: Prediction = "x0",
        condition_dropout: float = 0.1,
        standardise: bool = True,
        steps: int = 25,
        guidance_scale: float = 4.0,
        eta: float = 1.0,
        clamp: float | None = 10.0,
        spacing: Spacing = "linspace",
        weights: str | None = None,
    ) -> None:
        super().__init__(space)
        if not 0 <= condition_dropout < 1:
            raise ValueError(
                f"condition_dropout is {condition_dropout}; it must be 0 (no dropout) or more, and below 1 (default: 0.1)."
            )
        if not 0 <= eta <= 1:
            raise ValueError(f"eta is {eta}; it must be between 0 (DDIM) and 1 (DDPM).")
        if clamp is not None and not clamp > 0:
            raise ValueError(f"clamp is {clamp}; it must be above 0 (published priors: 5 or 10), or null for no clamp.")
        self.condition_dropout = condition_dropout
        self.eta = eta
        self.clamp = clamp
        self.schedule = NoiseSchedule(schedule, num_train_timesteps, prediction)
        self.spacing = spacing
        self.sample_with(steps, guidance_scale)
        self.network = PriorNetwork(
            space.dim,
            space.text_width,
            space.context_length,
            num_layers,
            num_attention_heads,
            attention_head_dim,
            time_embedding=True,
            text_dim=space.text_dim,
        )
        if condition_dropout:
            space.empty_prompt()  # raises here, not after the first epoch
        # Not saved, because they are in the space. A copy from the host in each step would make it wait.
        self.register_buffer("empty_embed", space.empty_embed, persistent=False)
        self.register_buffer("empty_states", space.empty_states, persistent=False)
        if guidance_scale != 1 and not condition_dropout:
            warnings.warn(
                f"guidance_scale is {guidance_scale}, but condition_dropout is 0. The network will not see the "
                "empty prompt in training. Guidance needs it: set condition_dropout above 0 (0.1), or guidance_scale to 1.",
                UserWarning,
                stacklevel=2,
            )
        if standardise:
            self.network.set_statistics(space.image_mean, space.image_std)
        if weights is not None:
            open_saved(weights).fill(self)

    def sample_with(self, steps: int | None = None, guidance_scale: float | None = None) -> None:
        """Set the options of the sampler; None keeps what was set. The weights stay as they are.

        Raises:
            ValueError: A value is not valid, or guidance lacks the empty prompt.
        """
        if guidance_scale is not None:
            if not (guidance_scale >= 0 and math.isfinite(guidance_scale)):
                raise ValueError(
                    f"guidance_scale is {guidance_scale}; it must be 0 or more. 1 means no guidance; published priors use 4."
                )
            if guidance_scale != 1:
                self.space.empty_prompt()
            self.guidance_scale = guidance_scale
        if steps is not None:
            self.timesteps = self.schedule.timesteps(steps, self.spacing)

    def empty_prompt(self, like: TextCondition) -> TextCondition:
        """The encoded empty prompt with the device and type of ``like``, without a copy from the host."""
        embed, states = self.empty_embed, self.empty_states
        if embed is None or states is None:
            return self.space.empty_prompt()  # raises
        tokens, like_embed = len(states), like.text_embed
        lengths = torch.full((1,), tokens, device=like_embed.device)
        return TextCondition(embed[None].to(like_embed), states.to(like_embed), lengths, (tokens, tokens))

    @property
    def trained_for(self) -> dict[str, str | int | float | bool]:
        schedule = self.schedule
        return {"prediction": schedule.prediction, "schedule": schedule.curve, "num_train_timesteps": schedule.steps}

    @property
    def forward_passes(self) -> int:
        return len(self.timesteps) * (1 if self.guidance_scale == 1 else 2)

    def losses(self, batch: EmbeddingBatch) -> dict[str, Tensor]:
        """``diffusion``: mean squared error of the prediction from noisy embeddings at random steps (unCLIP, Eq. 2)."""
        embed = self.network.standardise(batch.image_embed)
        time = torch.randint(self.schedule.steps, (len(batch),), device=embed.device)
        noise = gaussian_noise(embed)
        text = batch.text
        if self.training and self.condition_dropout:
            dropped = torch.rand(len(batch), device=embed.device) < self.condition_dropout
            text = text.replaced(dropped, self.empty_prompt(text))
        output = self.network(self.schedule.add_noise(embed, noise, time), text, time)
        diffusion = F.mse_loss(output.float(), self.schedule.target(embed, noise, time))
        return {"diffusion": diffusion, "total": diffusion}

    @torch.no_grad()
    def sample(
        self,
        text: TextCondition | EmbeddingBatch,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> Float[Tensor, "batch dim"]:
        """Start from Gaussian noise and denoise in ``steps`` steps.

        The generator draws the initial noise. If eta is above 0, it also draws the noise that each step adds.
        """
        text = condition_of(text)
        noise = gaussian_noise(text.text_embed.new_empty(len(text), self.space.dim), generator)
        *_, embed = self.schedule.denoise(self.guided(text), noise, self.timesteps, self.eta, self.clamp, generator)
        return self.network.raw(embed).float()

    def guided(self, text: TextCondition) -> Predict:
        """The guided prediction. The tokens of the captions are computed once for all steps."""
        if self.guidance_scale == 1:
            prefix = self.network.prefix(text)
            return lambda noisy, time: self.network.continue_prefix(noisy, prefix, time)
        batch, device = len(text), text.text_embed.device
        captions = TextCondition.join([text, self.empty_prompt(text)])
        rows = torch.cat([torch.arange(batch, device=device), torch.full((batch,), batch, device=device)])
        doubled = self.network.prefix(captions).select(rows)

        def predict(noisy: Float[Tensor, "batch dim"], time: Int[Tensor, "batch"]) -> Float[Tensor, "batch dim"]:
            captioned, empty = self.network.continue_prefix(noisy.repeat(2, 1), doubled, time.repeat(2)).chunk(2)
            return empty + self.guidance_scale * (captioned - empty)

        return predict
