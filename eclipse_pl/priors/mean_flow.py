"""MeanFlowPrior: the average velocity between two noise levels, so that one pass or a few replace the steps of a flow."""

from __future__ import annotations

import warnings
from typing import get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from eclipse_pl.arguments import one_of
from eclipse_pl.embedding import ClipSpace, EmbeddingBatch, TextCondition, condition_of
from eclipse_pl.priors.flow_path import FlowPath, SigmaDistribution
from eclipse_pl.priors.guided import GuidedPrior, network_with_time
from eclipse_pl.priors.open_saved import open_saved
from eclipse_pl.priors.prior import gaussian_noise
from eclipse_pl.priors.standardised import Standardise


class MeanFlowPrior(GuidedPrior):
    """MeanFlow (Geng et al. 2025, 2505.13447) with the target of improved MeanFlow (Geng et al. 2025, 2512.02012).

    On the path ``z_t = (1 - t) x + t eps`` the network predicts the average velocity ``u(z_t, r, t) = (z_t - z_r) / (t - r)``.
    Its instantaneous velocity is ``u + (t - r) du/dt`` (Eq. 6 of MeanFlow), which training compares with ``eps - x``. du/dt is
    a forward-mode derivative along the predicted velocity, without gradient (iMF). Keys and values of the captions depend on
    neither z nor time, so it goes through the image tokens alone, in float32. "Ours" marks a default of this project.

    Args:
        space: CLIP space of captions and image embeddings; it gives all widths, the statistics and the empty prompt.
        num_layers: Number of transformer blocks. ECLIPSE: 10.
        num_attention_heads: Heads of each block. ECLIPSE: 16.
        attention_head_dim: Width of each head. ECLIPSE: 32.
        num_train_timesteps: Factor of the times t and t - r that the network reads. Ours: 1000, as in FlowPrior, whose
            weights can start this prior. MeanFlow's code has 1.
        sigma: Distribution of r and t in training: "uniform" or "logit_normal".
        shift: Shift of r and t in training and sampling; see `FlowPath`.
        interval_share: Fraction of the batch with r below t, above 0 at least one pair. MeanFlow: 0.25; iMF: 0.5. With 0 the
            loss is FlowPrior's.
        adaptive_power: Exponent p of the weight ``1 / (e + 0.001)^p`` of a pair whose summed squared error is e. MeanFlow: 1.
            0 gives all pairs the same weight.
        condition_dropout: Fraction of captions that training replaces by the empty prompt. Guidance needs it.
        standardise: What the network predicts; see `FlowPrior`.
        steps: Number of sampling steps. MeanFlow: 1.
        guidance_scale: Scale w of ``empty + w (caption - empty)`` in sampling. Ours: 1, no guidance, so that one step is one
            pass.
        clamp: Bound of every number of the last prediction; null sets no bound.
        weights: Initial weights: a run of this prior or of a FlowPrior (velocity, schedule flow), one of its checkpoints, or
            such a FlowPrior that was exported.

    Raises:
        ValueError: A value is not valid, or the space lacks the empty prompt or the statistics that these options need.
    """

    may_lack = ("network.interval_embedding.",)

    def __init__(
        self,
        space: ClipSpace,
        num_layers: int = 10,
        num_attention_heads: int = 16,
        attention_head_dim: int = 32,
        num_train_timesteps: int = 1000,
        sigma: SigmaDistribution = "uniform",
        shift: float = 1.0,
        interval_share: float = 0.5,
        adaptive_power: float = 1.0,
        condition_dropout: float = 0.1,
        standardise: Standardise = "diagonal",
        steps: int = 1,
        guidance_scale: float = 1.0,
        clamp: float | None = None,
        weights: str | None = None,
    ) -> None:
        network = network_with_time(space, num_layers, num_attention_heads, attention_head_dim, interval=True)
        super().__init__(space, network, condition_dropout, standardise, guidance_scale, clamp)
        one_of("sigma", sigma, get_args(SigmaDistribution))
        if not 0 <= interval_share <= 1:
            raise ValueError(f"interval_share is {interval_share}; it must be between 0 (a plain flow) and 1 (default: 0.5).")
        if not 0 <= adaptive_power <= 2:
            raise ValueError(f"adaptive_power is {adaptive_power}; it must be between 0 (no weight) and 2 (default: 1).")
        self.sigma_distribution = sigma
        self.interval_share = interval_share
        self.adaptive_power = adaptive_power
        self.path = FlowPath("velocity", "flow", num_train_timesteps, shift)
        self.sample_with(steps)
        load_forward_mode()
        if weights is not None:
            open_saved(weights).fill(self)

    def set_steps(self, steps: int) -> None:
        self.sigmas = self.path.sigmas(steps)

    @property
    def trained_for(self) -> dict[str, str | int | float | bool]:
        return {"prediction": "velocity", "schedule": "flow", "num_train_timesteps": self.path.steps}

    @property
    def sampling(self) -> dict[str, int | float | str]:
        return {"steps": len(self.sigmas) - 1, "guidance_scale": self.guidance_scale}

    @property
    def forward_passes(self) -> int:
        return (len(self.sigmas) - 1) * self.passes_a_call

    @property
    def compiles_whole(self) -> bool:
        return not self.interval_share  # see `derivative`

    def losses(self, batch: EmbeddingBatch) -> dict[str, Tensor]:
        """``mean_flow``: weighted squared error of the velocity; ``flow``: without weight, as FlowPrior's (for comparison).

        Raises:
            ValueError: The weights are not in float32.
        """
        if (dtype := self.network.proj_in.weight.dtype) != torch.float32:
            raise ValueError(
                f"The weights are {str(dtype).removeprefix('torch.')}: the derivative in MeanFlow's loss would be rounding "
                "noise. Set trainer.precision to bf16-mixed or 32-true."
            )
        embed = self.network.standardise(batch.image_embed)
        time, noise = self.path.draw(len(batch), self.sigma_distribution, embed.device), gaussian_noise(embed)
        interval, between = torch.zeros_like(time), round(self.interval_share * len(batch))
        if self.interval_share and not between:
            between = 1  # of a small batch: with none at all the loss would be a plain flow's
        if between:
            # drawn, because the pairs of a batch are in the order of their files
            rows = torch.rand(len(batch), device=embed.device).argsort()[:between]
            chosen = torch.zeros_like(time, dtype=torch.bool).index_fill(0, rows, True)
            other = self.path.draw(len(batch), self.sigma_distribution, embed.device)
            interval = torch.where(chosen, (time - other).abs(), interval)
            time = torch.where(chosen, torch.maximum(time, other), time)
        noisy, text, scale = self.path.mix(embed, noise, time), self.dropped(batch.text), self.path.steps
        velocity = self.network(noisy, text, scale * time, scale * interval).float()
        if between:
            change = self.derivative(noisy, text, time, interval, rows)
            velocity = velocity.index_add(0, rows, interval[rows, None] * change)
        flow = self.path.squared_error(velocity, embed, noise, time)
        if not self.adaptive_power:
            return {"mean_flow": flow, "flow": flow.detach(), "total": flow}
        errors = (velocity - (noise - embed)).square().sum(1)
        mean_flow = (errors / (errors.detach() + 1e-3).pow(self.adaptive_power)).mean()
        return {"mean_flow": mean_flow, "flow": flow.detach(), "total": mean_flow}

    @torch.compiler.disable  # torch 2.14 cannot trace it, and falls back after many attempts
    @torch.no_grad()
    def derivative(
        self,
        noisy: Float[Tensor, "batch dim"],
        text: TextCondition,
        time: Float[Tensor, " batch"],
        interval: Float[Tensor, " batch"],
        rows: Int[Tensor, " count"],
    ) -> Float[Tensor, "count dim"]:
        """du/dt of these rows along the predicted velocity, with r fixed.

        Only the math kernel of attention has forward-mode derivatives.
        """
        scale = self.path.steps
        with torch.autocast(noisy.device.type, enabled=False), sdpa_kernel(SDPBackend.MATH):
            prefix = self.network.prefix(text).select(rows)

            def average(
                noisy: Float[Tensor, "count dim"], time: Float[Tensor, " count"], interval: Float[Tensor, " count"]
            ) -> Float[Tensor, "count dim"]:
                return self.network.continue_prefix(noisy, prefix, scale * time, scale * interval)

            inputs = noisy[rows], time[rows], interval[rows]
            velocity = average(*inputs[:2], torch.zeros_like(inputs[2]))
            one = torch.ones_like(inputs[1])
            change: Tensor = torch.func.jvp(average, inputs, (velocity, one, one))[1]
        return change

    @torch.no_grad()
    def sample(
        self,
        text: TextCondition | EmbeddingBatch,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> Float[Tensor, "batch dim"]:
        """``z_r = z_t - (t - r) u(z_t, r, t)`` from noise at 1 to the embedding at 0. The generator draws the noise."""
        text = condition_of(text)
        embed, predict = self.noise_for(text, generator), self.guided(text)
        for time, following in zip(self.sigmas[:-1], self.sigmas[1:], strict=True):
            times = [torch.full((len(embed),), self.path.steps * one, device=embed.device) for one in (time, time - following)]
            embed = embed - (time - following) * predict(embed, *times).float()
        if self.clamp is not None:
            embed = embed.clamp(-self.clamp, self.clamp)
        return self.network.raw(embed).float()


def load_forward_mode() -> None:
    """Load torch's forward-mode derivatives, which warns once of torch's own use of ``torch.jit.script``."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.filterwarnings("ignore", ".*torch.jit.script.*")
        forward_ad.make_dual(torch.zeros(1), torch.zeros(1))
