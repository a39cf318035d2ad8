"""FlowPath: the straight path from an embedding to its noise, and the samplers that go back along it.

``z = (1 - sigma) x + sigma eps`` with the velocity ``v = dz / dsigma = eps - x`` (rectified flow: Liu et al. 2023, Eq. 1;
Lipman et al. 2023). From z and v follow ``x = z - sigma v`` and ``eps = z + (1 - sigma) v``.

The path is that of variance-preserving diffusion in other coordinates. With ``a = sqrt(alpha_bar)`` and
``b = sqrt(1 - alpha_bar)``, the noisy embedding of diffusion is ``a x + b eps = (a + b) z`` at ``sigma = b / (a + b)``. An
Euler step on the path is then a step of DDIM without noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eclipse_pl.arguments import one_of, require_whole
from eclipse_pl.priors.prior import gaussian_noise
from eclipse_pl.priors.schedule import NoiseSchedule, Predict

FlowPrediction = Literal["velocity", "x0"]
FlowSchedule = Literal["flow", "cosine", "linear"]
SigmaDistribution = Literal["uniform", "logit_normal"]
Sampler = Literal["euler", "heun", "stochastic"]

SIGMA_FLOOR = 0.05
"""Least sigma in the weight ``1 / sigma^2`` of the x0 loss. Below it the weight would grow without bound."""


class FlowPath(nn.Module):
    """The path, its target, and what the network reads and predicts.

    Args:
        prediction: Quantity that the network predicts: "velocity" (v) or "x0" (the clean embedding).
        schedule: Coordinates of the network's two inputs. "flow": z and the time ``sigma * steps``. "cosine", "linear": the
            noisy embedding ``z / sqrt(sigma^2 + (1 - sigma)^2)`` and the diffusion step of this `NoiseSchedule` that has
            the same ratio of noise to embedding, interpolated between two steps. A diffusion prior reads these.
        steps: Number of training steps of the time; 1000 in all published priors and in diffusers.
        shift: Factor s of ``s sigma / (1 + (s - 1) sigma)``, applied to every sigma of training and sampling (Esser et al.
            2024, Eq. 23). Above 1 it moves them towards the noise.
    """

    table: Float[Tensor, " steps"]
    """Sigma of each diffusion step; empty for "flow"."""

    def __init__(
        self, prediction: FlowPrediction = "velocity", schedule: FlowSchedule = "flow", steps: int = 1000, shift: float = 1.0
    ) -> None:
        super().__init__()
        one_of("prediction", prediction, get_args(FlowPrediction))
        one_of("schedule", schedule, get_args(FlowSchedule))
        if not 0 < shift < math.inf:
            raise ValueError(f"shift is {shift}; it must be above 0 (1, the default, changes nothing).")
        require_whole("num_train_timesteps", steps, 2, " (published priors: 1000)")
        self.prediction = prediction
        self.schedule = schedule
        self.steps = steps
        self.shift = shift
        table = torch.empty(0)
        if schedule != "flow":
            alpha_bar = NoiseSchedule(schedule, steps).alpha_bar.double()
            noise = (1 - alpha_bar).sqrt()
            table = (noise / (alpha_bar.sqrt() + noise)).float()
        # Not saved, because it is a function of the arguments.
        self.register_buffer("table", table, persistent=False)

    def draw(self, count: int, distribution: SigmaDistribution, device: torch.device) -> Float[Tensor, " count"]:
        """Sigmas of training: uniform on 0 ... 1, or the sigmoid of a standard normal number (Esser et al. 2024, Eq. 19)."""
        sigma = torch.rand(count, device=device) if distribution == "uniform" else torch.randn(count, device=device).sigmoid()
        return self._shifted(sigma)

    def mix(
        self, embed: Float[Tensor, "batch dim"], noise: Float[Tensor, "batch dim"], sigma: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        """z of the path from ``embed`` (sigma 0) to ``noise`` (sigma 1)."""
        return (1 - sigma[:, None]) * embed + sigma[:, None] * noise

    def read(
        self, noisy: Float[Tensor, "batch dim"], sigma: Float[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, " batch"]]:
        """The network's inputs for z: the embedding and the time."""
        if self.schedule == "flow":
            return noisy, sigma * self.steps
        above = torch.searchsorted(self.table, sigma).clamp(1, self.steps - 1)
        low, high = self.table[above - 1], self.table[above]
        time = above - 1 + ((sigma - low) / (high - low)).clamp(0, 1)
        return noisy * (sigma.square() + (1 - sigma).square()).rsqrt()[:, None], time

    def squared_error(
        self,
        output: Float[Tensor, "batch dim"],
        embed: Float[Tensor, "batch dim"],
        noise: Float[Tensor, "batch dim"],
        sigma: Float[Tensor, " batch"],
    ) -> Float[Tensor, ""]:
        """Mean of ``|v_hat - v|^2`` over dimensions and batch.

        For x0 this is ``|x_hat - x|^2 / sigma^2``, with sigma at least `SIGMA_FLOOR`.
        """
        if self.prediction == "velocity":
            return (output.float() - (noise - embed)).square().mean()
        return ((output.float() - embed) / sigma.clamp(min=SIGMA_FLOOR)[:, None]).square().mean()

    def velocity(
        self, output: Float[Tensor, "batch dim"], noisy: Float[Tensor, "batch dim"], sigma: float, clamp: float | None = None
    ) -> Float[Tensor, "batch dim"]:
        """v from the output of the network for z. ``clamp`` bounds every number of the predicted clean embedding."""
        if self.prediction == "velocity":
            if clamp is None:
                return output
            output = noisy - sigma * output
        return (noisy - (output if clamp is None else output.clamp(-clamp, clamp))) / sigma

    def sigmas(self, steps: int) -> list[float]:
        """The sigmas that a sampler of ``steps`` steps visits: 1, 1 - 1/n, ..., 1/n, shifted, and then 0.

        Raises:
            ValueError: There is no step, or a part of one.
        """
        require_whole("steps", steps, 1, " (default: 25)")
        return [*(self._shifted(1 - step / steps) for step in range(steps)), 0.0]

    def denoise(
        self,
        predict: Predict,
        noise: Float[Tensor, "batch dim"],
        sigmas: Sequence[float],
        sampler: Sampler = "euler",
        clamp: float | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> Iterator[Float[Tensor, "batch dim"]]:
        """Walk from ``noise`` through ``sigmas``. Yields z after each step; the last one is the embedding.

        "euler" and "stochastic" equal diffusers' ``FlowMatchEulerDiscreteScheduler`` step by step. "heun" averages the
        velocities at both ends of a step, and takes the last step by Euler (Karras et al. 2022, Alg. 1). "stochastic" adds
        fresh noise to the predicted embedding at each step, as consistency models do (Song et al. 2023, Alg. 1).
        """

        def velocity(noisy: Float[Tensor, "batch dim"], sigma: float) -> Float[Tensor, "batch dim"]:
            inputs = self.read(noisy, torch.full((len(noisy),), sigma, device=noisy.device))
            return self.velocity(predict(*inputs).float(), noisy, sigma, clamp)

        noisy = noise
        for sigma, following in pairwise(sigmas):
            slope = velocity(noisy, sigma)
            if sampler == "stochastic" and following > 0:
                clean = noisy - sigma * slope
                noisy = (1 - following) * clean + following * gaussian_noise(noisy, generator)
            else:
                if sampler == "heun" and following > 0:
                    slope = (slope + velocity(noisy + (following - sigma) * slope, following)) / 2
                noisy = noisy + (following - sigma) * slope
            yield noisy

    def _shifted(self, sigma: Any) -> Any:
        return self.shift * sigma / (1 + (self.shift - 1) * sigma)
