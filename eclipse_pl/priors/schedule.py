"""NoiseSchedule: the noise of each diffusion step, and the sampler that denoises an embedding.

``x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps`` (Ho et al. 2020, Eq. 4). One family of samplers (Song et
al. 2021, Eq. 12 and 16) holds both common ones: eta 1 is DDPM's ancestral sampling, eta 0 is DDIM.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from numbers import Integral
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int, Real
from torch import Tensor, nn

from eclipse_pl.arguments import one_of, require_whole
from eclipse_pl.priors.prior import gaussian_noise

Curve = Literal["cosine", "linear"]
Prediction = Literal["x0", "eps", "v"]
Spacing = Literal["linspace", "leading", "trailing"]

Predict = Callable[[Float[Tensor, "batch dim"], Real[Tensor, " batch"]], Float[Tensor, "batch dim"]]
"""From noisy embeddings and their times to the prediction of the network."""


class NoiseSchedule(nn.Module):
    """alpha_bar of every training step, and the conversions that follow from it.

    Args:
        curve: Curve of the noise: "cosine" (Nichol & Dhariwal 2021, Eq. 17; diffusers' ``squaredcos_cap_v2``) or "linear"
            (Ho et al. 2020: betas from 1e-4 to 0.02).
        steps: Number T of training steps; step t of the code is step t + 1 of the papers.
        prediction: Quantity that the network predicts: "x0" (the clean embedding), "eps" (the noise) or "v" (Salimans & Ho
            2022, app. D).
    """

    alpha_bar: Float[Tensor, " steps"]

    def __init__(self, curve: Curve = "cosine", steps: int = 1000, prediction: Prediction = "x0") -> None:
        super().__init__()
        one_of("schedule", curve, get_args(Curve))
        one_of("prediction", prediction, get_args(Prediction))
        require_whole("num_train_timesteps", steps, 2, " (published priors: 1000)")
        self.curve = curve
        self.steps = steps
        self.prediction = prediction
        # Float32, so that the last digits agree with diffusers. Not saved, because it is a function of the arguments.
        self.register_buffer("alpha_bar", torch.cumprod(1 - betas(curve, steps), dim=0), persistent=False)

    def add_noise(
        self, embed: Float[Tensor, "batch dim"], noise: Float[Tensor, "batch dim"], time: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        """x_t for the x_0 ``embed``."""
        alpha_bar = self.alpha_bar[time][:, None]
        return alpha_bar.sqrt() * embed + (1 - alpha_bar).sqrt() * noise

    def target(
        self, embed: Float[Tensor, "batch dim"], noise: Float[Tensor, "batch dim"], time: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        """The target of the network for the result of `add_noise`."""
        if self.prediction == "x0":
            return embed
        if self.prediction == "eps":
            return noise
        alpha_bar = self.alpha_bar[time][:, None]
        return alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * embed

    def clean(
        self, output: Float[Tensor, "batch dim"], noisy: Float[Tensor, "batch dim"], time: int
    ) -> Float[Tensor, "batch dim"]:
        """x_0 from the output of the network for x_t."""
        alpha_bar = self.alpha_bar[time]
        if self.prediction == "x0":
            return output
        if self.prediction == "eps":
            return (noisy - (1 - alpha_bar).sqrt() * output) / alpha_bar.sqrt()
        return alpha_bar.sqrt() * noisy - (1 - alpha_bar).sqrt() * output

    def timesteps(self, steps: int, spacing: Spacing = "linspace") -> list[int]:
        """The training steps that a sampler of ``steps`` steps visits, the noisiest first. Spacings have diffusers' names.

        "linspace" includes the first and the last step, as in Karlo and Kandinsky (``UnCLIPScheduler``). A single
        step is always the last training step, because only there the network expects pure noise.
        """
        one_of("spacing", spacing, get_args(Spacing))
        if not (isinstance(steps, Integral) and 1 <= steps <= self.steps):
            raise ValueError(
                f"steps is {steps}; it must be a whole number from 1 to {self.steps}, the steps of training (published priors "
                "sample in 25)."
            )
        if steps == 1:
            return [self.steps - 1]
        if spacing == "linspace":
            places = [round(place * ((self.steps - 1) / (steps - 1))) for place in range(steps)]
        elif spacing == "leading":
            places = [place * (self.steps // steps) for place in range(steps)]
        else:
            descending = np.arange(self.steps, 0, -self.steps / steps)[:steps]  # same rounding as diffusers
            places = [round(place) - 1 for place in descending[::-1].tolist()]
        return places[::-1]

    def denoise(
        self,
        predict: Predict,
        noise: Float[Tensor, "batch dim"],
        timesteps: Sequence[int],
        eta: float = 1.0,
        clamp: float | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> Iterator[Float[Tensor, "batch dim"]]:
        """Denoise step by step. Yields x after each step; the last one is x_0.

        ``clamp`` bounds every number of the predicted x_0. The noise is then computed from x_t and the clamped x_0, as in
        DDPM (diffusers' DDIM with ``use_clipped_model_output``).
        """
        noisy = noise
        for time, following in zip(timesteps, [*timesteps[1:], -1], strict=True):
            output = predict(noisy, torch.full((len(noisy),), time, device=noisy.device)).float()
            clean = self.clean(output, noisy, time)
            if clamp is not None:
                clean = clean.clamp(-clamp, clamp)
            if following < 0:
                noisy = clean
            else:
                # Float64: in float32, as in UnCLIPScheduler, the difference of nearly equal numbers loses up to four digits.
                now, then = self.alpha_bar[time].double(), self.alpha_bar[following].double()
                epsilon = (noisy - now.sqrt() * clean) / (1 - now).sqrt()
                sigma = eta * ((1 - then) / (1 - now) * (1 - now / then)).sqrt()
                noisy = then.sqrt() * clean + (1 - then - sigma.square()).clamp(min=0).sqrt() * epsilon
                if eta > 0:
                    noisy = noisy + sigma * gaussian_noise(noisy, generator)
            yield noisy


def betas(curve: Curve, steps: int) -> Float[Tensor, " steps"]:
    """Variance of the noise that each step adds."""
    if curve == "linear":
        return torch.linspace(1e-4, 0.02, steps, dtype=torch.float32)

    def alpha_bar(place: float) -> float:
        return math.cos((place + 0.008) / 1.008 * math.pi / 2) ** 2

    ratios = [alpha_bar((step + 1) / steps) / alpha_bar(step / steps) for step in range(steps)]
    return torch.tensor([min(1 - ratio, 0.999) for ratio in ratios], dtype=torch.float32)
