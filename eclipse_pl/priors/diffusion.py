from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from eclipse_pl.embedding import ClipSpace, EmbeddingBatch, TextCondition, condition_of
from eclipse_pl.priors.guided import GuidedPrior, network_with_time
from eclipse_pl.priors.open_saved import open_saved
from eclipse_pl.priors.prior import gaussian_noise
from eclipse_pl.priors.schedule import Curve, NoiseSchedule, Prediction, Spacing
from eclipse_pl.priors.standardised import Standardise


class DiffusionPrior(GuidedPrior):
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
        standardise: What the network predicts: "diagonal" (published priors), embeddings standardised by the space's mean and
            standard deviation; "full", embeddings whitened by its covariance; "none", raw ones. With raw embeddings their
            norm changes the effect of the noise schedule.
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
        standardise: Standardise = "diagonal",
        steps: int = 25,
        guidance_scale: float = 4.0,
        eta: float = 1.0,
        clamp: float | None = 10.0,
        spacing: Spacing = "linspace",
        weights: str | None = None,
    ) -> None:
        network = network_with_time(space, num_layers, num_attention_heads, attention_head_dim)
        super().__init__(space, network, condition_dropout, standardise, guidance_scale, clamp)
        self.schedule = NoiseSchedule(schedule, num_train_timesteps, prediction)
        self.spacing = spacing
        self.sample_with(steps, eta=eta)
        if weights is not None:
            open_saved(weights).fill(self)

    def sample_with(self, steps: int | None = None, guidance_scale: float | None = None, eta: float | None = None) -> None:
        """Set the options of the sampler; None keeps the present value. The weights stay as they are.

        Raises:
            ValueError: A value is not valid, or guidance lacks the empty prompt.
        """
        super().sample_with(steps, guidance_scale)
        if eta is not None:
            if not 0 <= eta <= 1:
                raise ValueError(f"eta is {eta}; it must be between 0 (DDIM) and 1 (DDPM).")
            self.eta = eta

    def set_steps(self, steps: int) -> None:
        self.timesteps = self.schedule.timesteps(steps, self.spacing)

    @property
    def trained_for(self) -> dict[str, str | int | float | bool]:
        schedule = self.schedule
        return {"prediction": schedule.prediction, "schedule": schedule.curve, "num_train_timesteps": schedule.steps}

    @property
    def sampling(self) -> dict[str, int | float | str]:
        return {"steps": len(self.timesteps), "guidance_scale": self.guidance_scale, "eta": self.eta}

    @property
    def forward_passes(self) -> int:
        return len(self.timesteps) * self.passes_a_call

    def losses(self, batch: EmbeddingBatch) -> dict[str, Tensor]:
        """``diffusion``: mean squared error of the prediction from noisy embeddings at random steps (unCLIP, Eq. 2)."""
        embed = self.network.standardise(batch.image_embed)
        time = torch.randint(self.schedule.steps, (len(batch),), device=embed.device)
        noise = gaussian_noise(embed)
        output = self.network(self.schedule.add_noise(embed, noise, time), self.dropped(batch.text), time)
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
        noise = self.noise_for(text, generator)
        *_, embed = self.schedule.denoise(self.guided(text), noise, self.timesteps, self.eta, self.clamp, generator)
        return self.network.raw(embed).float()
