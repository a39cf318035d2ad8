"""FlowPath against diffusers' scheduler step by step, against closed forms, and against diffusion on the same network."""

from __future__ import annotations

import math
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from eclipse_pl.priors.flow_path import SIGMA_FLOOR, FlowPath
from eclipse_pl.priors.schedule import NoiseSchedule
from tests.test_schedule import DIM, assert_same_way, network


@pytest.fixture
def noise() -> Tensor:
    return torch.randn(3, DIM, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("sampler", ["euler", "stochastic"])
@pytest.mark.parametrize("steps", [1, 2, 7, 25, 30])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_sampling_is_diffusers(sampler: str, steps: int, shift: float, noise: Tensor) -> None:
    path, reference = FlowPath(shift=shift), FlowMatchEulerDiscreteScheduler(
        shift=shift, stochastic_sampling=sampler == "stochastic"
    )  # fmt: skip
    reference.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps).tolist())
    torch.testing.assert_close(torch.tensor(path.sigmas(steps)), reference.sigmas)
    generator, noisy, theirs = torch.Generator().manual_seed(7), noise, []
    for time in reference.timesteps:
        noisy = reference.step(network(noisy, time.expand(3)), time, noisy, generator=generator).prev_sample
        theirs.append(noisy)
    mine = path.denoise(network, noise, path.sigmas(steps), sampler, generator=torch.Generator().manual_seed(7))
    assert_same_way(list(mine), theirs)


def test_noise_and_time_are_diffusers(noise: Tensor) -> None:
    reference, path, embed = FlowMatchEulerDiscreteScheduler(shift=2.0), FlowPath(), torch.randn(3, DIM)
    time = reference.timesteps[[0, 400, 999]]
    mixed = path.mix(embed, noise, time / 1000)
    torch.testing.assert_close(mixed, reference.scale_noise(embed, time, noise))
    torch.testing.assert_close(path.read(mixed, time / 1000)[1], time)


@pytest.mark.parametrize("prediction", ["velocity", "x0"])
def test_velocity_of_a_perfect_prediction(prediction: str, noise: Tensor) -> None:
    path, embed = FlowPath(prediction), torch.randn(3, DIM)
    for sigma in (0.01, 0.4, 1.0):
        noisy = path.mix(embed, noise, torch.full((3,), sigma))
        output = noise - embed if prediction == "velocity" else embed
        torch.testing.assert_close(path.velocity(output, noisy, sigma), noise - embed, atol=1e-4, rtol=1e-4)
        bounded = path.velocity(output, noisy, sigma, clamp=0.5)
        torch.testing.assert_close(noisy - sigma * bounded, embed.clamp(-0.5, 0.5), atol=1e-5, rtol=1e-5)


def test_the_x0_loss_is_the_velocity_loss_down_to_the_floor(noise: Tensor) -> None:
    embed, said = torch.randn(2, 3, DIM)
    for sigma in (SIGMA_FLOOR, 0.3, 1.0):
        levels = torch.full((3,), sigma)
        noisy = FlowPath().mix(embed, noise, levels)
        x0 = FlowPath("x0").squared_error(said, embed, noise, levels)
        torch.testing.assert_close(x0, FlowPath().squared_error((noisy - said) / sigma, embed, noise, levels))
    floored = FlowPath("x0").squared_error(said, embed, noise, torch.zeros(3))
    torch.testing.assert_close(floored, (said - embed).square().mean() / SIGMA_FLOOR**2)


@pytest.mark.parametrize("curve", ["cosine", "linear"])
def test_a_network_of_diffusion_reads_what_it_was_trained_on(curve: str, noise: Tensor) -> None:
    path, schedule, embed = FlowPath("x0", curve), NoiseSchedule(curve), torch.randn(3, DIM)
    steps = torch.tensor([0, 500, 999])
    sigma = path.table[steps]
    inputs, time = path.read(path.mix(embed, noise, sigma), sigma)
    torch.testing.assert_close(time, steps.float(), atol=1e-3, rtol=0)
    torch.testing.assert_close(inputs, schedule.add_noise(embed, noise, steps))
    between = path.read(noise[1:], (path.table[steps[1:] - 1] + sigma[1:]) / 2)[1]
    torch.testing.assert_close(between, steps[1:] - 0.5, atol=1e-2, rtol=0)
    assert path.read(noise[:2], torch.tensor([0.0, 1.0]))[1].tolist() == [0, 999], "beyond the first and the last step"


@pytest.mark.parametrize("curve", ["cosine", "linear"])
@pytest.mark.parametrize("clamp", [None, 0.8])
@pytest.mark.parametrize("steps", [1, 2, 25, 200])
def test_euler_is_ddim(curve: str, clamp: float | None, steps: int, noise: Tensor) -> None:
    """In scaled coordinates every step of one sampler is a step of the other."""
    path, schedule = FlowPath("x0", curve), NoiseSchedule(curve)
    timesteps = schedule.timesteps(steps)
    alpha_bar = schedule.alpha_bar[timesteps].double()
    scales = [*((alpha_bar.sqrt() + (1 - alpha_bar).sqrt()).tolist()), 1.0]
    sigmas = [*path.table[timesteps].tolist(), 0.0]
    flow = list(path.denoise(network, noise / scales[0], sigmas, clamp=clamp))
    ddim = list(schedule.denoise(network, noise, timesteps, eta=0.0, clamp=clamp))
    assert_same_way([z * scale for z, scale in zip(flow, scales[1:], strict=True)], ddim)


MEAN, SPREAD = 1.0, 0.5


def velocity_of_a_gaussian(noisy: Tensor, time: Tensor) -> Tensor:
    """E[eps - x | z] for x ~ N(MEAN, SPREAD^2)."""
    sigma = time[:, None] / 1000
    centred = noisy - (1 - sigma) * MEAN
    variance = ((1 - sigma) * SPREAD).square() + sigma.square()
    return (sigma - (1 - sigma) * SPREAD**2) / variance * centred - MEAN


def test_order_of_the_samplers(noise: Tensor) -> None:
    """The flow of a Gaussian maps eps to MEAN + SPREAD eps. Twice the steps: half the error of Euler, a quarter of Heun's."""
    path, exact, errors = FlowPath(), MEAN + SPREAD * noise, {}
    for sampler in ("euler", "heun"):
        for steps in (20, 40):
            *_, embed = path.denoise(velocity_of_a_gaussian, noise, path.sigmas(steps), sampler)
            errors[sampler, steps] = float((embed - exact).norm())
    assert errors["euler", 20] / errors["euler", 40] == pytest.approx(2, abs=0.3)
    assert errors["heun", 20] / errors["heun", 40] == pytest.approx(4, abs=0.6)
    assert errors["heun", 20] < 0.2 * errors["euler", 20]


def test_the_stochastic_sampler_keeps_the_distribution() -> None:
    start = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(1))
    path = FlowPath()
    *_, embed = path.denoise(
        velocity_of_a_gaussian, start, path.sigmas(200), "stochastic", generator=torch.Generator().manual_seed(2)
    )
    # each step predicts a mean, so a little of the spread is lost, and less with more steps
    assert abs(float(embed.mean()) - MEAN) < 0.02 and float(embed.std()) < SPREAD


def test_one_euler_step_is_the_conditional_mean(noise: Tensor) -> None:
    path = FlowPath()
    (embed,) = path.denoise(velocity_of_a_gaussian, noise, path.sigmas(1))
    torch.testing.assert_close(embed, torch.full_like(noise, MEAN))


def test_distributions_of_sigma() -> None:
    torch.manual_seed(0)
    uniform = FlowPath().draw(100_000, "uniform", torch.device("cpu"))
    assert uniform.min() >= 0 and uniform.max() < 1
    torch.testing.assert_close(torch.stack([uniform.mean(), uniform.var()]), torch.tensor([1 / 2, 1 / 12]), atol=5e-3, rtol=0)
    logits = FlowPath().draw(100_000, "logit_normal", torch.device("cpu")).logit()
    torch.testing.assert_close(torch.stack([logits.mean(), logits.std()]), torch.tensor([0.0, 1.0]), atol=1e-2, rtol=0)
    shifted = FlowPath(shift=3.0).draw(100_000, "logit_normal", torch.device("cpu")).logit()
    assert float(shifted.mean()) == pytest.approx(math.log(3), abs=1e-2), "a shift of sigma is a shift of its logit"


def test_only_the_stochastic_sampler_draws_noise(noise: Tensor) -> None:
    path = FlowPath()
    for sampler, draws in (("euler", False), ("heun", False), ("stochastic", True)):
        generator = torch.Generator().manual_seed(0)
        before = generator.get_state()
        list(path.denoise(network, noise, path.sigmas(3), sampler, generator=generator))
        assert torch.equal(before, generator.get_state()) != draws


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FlowPath("eps"), "prediction is 'eps'; choose one of 'velocity', 'x0'"),
        (lambda: FlowPath(schedule="vp"), "schedule is 'vp'; choose one of 'flow', 'cosine', 'linear'"),
        (lambda: FlowPath(shift=0.0), "shift is 0.0; it must be above 0"),
        (lambda: FlowPath(steps=1), "num_train_timesteps is 1; it must be 2 or more"),
        (lambda: FlowPath().sigmas(0), "steps is 0; it must be 1 or more"),
    ],
)
def test_bad_choices(call: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # beartype would be there first
    with pytest.raises(ValueError, match=message):
        call()
