"""NoiseSchedule against diffusers' schedulers, step by step."""

from __future__ import annotations

from itertools import product
from typing import Any

import jaxtyping
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, UnCLIPScheduler
from torch import Tensor

from eclipse_pl.priors.schedule import NoiseSchedule

PREDICTION = {"x0": "sample", "eps": "epsilon", "v": "v_prediction"}
CURVE = {"cosine": "squaredcos_cap_v2", "linear": "linear"}
DIM = 12


def network(noisy: Tensor, time: Tensor) -> Tensor:
    """Any smooth function of embedding and step will do."""
    mixing = torch.linspace(-1, 1, DIM * DIM).view(DIM, DIM).sin()
    return torch.tanh(noisy @ mixing / DIM**0.5) * (1.5 + time[:, None] / 1000)


def ours(schedule: NoiseSchedule, noise: Tensor, timesteps: list[int], **options: Any) -> list[Tensor]:
    return list(schedule.denoise(network, noise, timesteps, generator=torch.Generator().manual_seed(7), **options))


def theirs(scheduler: Any, noise: Tensor, steps: int, **options: Any) -> list[Tensor]:
    scheduler.set_timesteps(steps)
    generator, noisy, trajectory = torch.Generator().manual_seed(7), noise, []
    unclip = isinstance(scheduler, UnCLIPScheduler)
    for number, time in enumerate(scheduler.timesteps):
        if unclip:  # as Kandinsky's and Karlo's pipelines call it
            following = scheduler.timesteps[number + 1] if number + 1 < steps else None
            options["prev_timestep"] = following
        output = network(noisy, time.expand(len(noisy)))
        noisy = scheduler.step(output, time, noisy, generator=generator, **options).prev_sample
        trajectory.append(noisy)
    return trajectory


def assert_same_way(one: list[Tensor], other: list[Tensor]) -> None:
    assert len(one) == len(other)
    for ours_x, their_x in zip(one, other, strict=True):
        torch.testing.assert_close(ours_x, their_x, atol=1e-5, rtol=1e-5)


def in_float64(scheduler: Any) -> Any:
    """The scheduler with its own table of noise levels, and everything that it computes from it, in float64."""
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    if isinstance(scheduler, UnCLIPScheduler):
        before = torch.cat([torch.ones(1, dtype=torch.float64), scheduler.alphas_cumprod[:-1]])
        scheduler.alphas = scheduler.alphas_cumprod / before
        scheduler.betas = 1 - scheduler.alphas
    return scheduler


@pytest.fixture
def noise() -> Tensor:
    return torch.randn(3, DIM, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("curve", CURVE)
@pytest.mark.parametrize("steps", [1000, 50])
def test_noise_levels_are_diffusers(curve: str, steps: int) -> None:
    reference = DDPMScheduler(num_train_timesteps=steps, beta_schedule=CURVE[curve])
    torch.testing.assert_close(NoiseSchedule(curve, steps).alpha_bar, reference.alphas_cumprod, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("prediction", PREDICTION)
@pytest.mark.parametrize("curve", CURVE)
def test_noise_and_target_are_diffusers(prediction: str, curve: str, noise: Tensor) -> None:
    schedule, reference = NoiseSchedule(curve, prediction=prediction), DDPMScheduler(beta_schedule=CURVE[curve])
    embed, time = torch.randn(3, DIM), torch.tensor([0, 400, 999])
    noisy = schedule.add_noise(embed, noise, time)
    torch.testing.assert_close(noisy, reference.add_noise(embed, noise, time))
    expected = {"x0": embed, "eps": noise, "v": reference.get_velocity(embed, noise, time)}[prediction]
    torch.testing.assert_close(schedule.target(embed, noise, time), expected)
    for row, step in enumerate(time.tolist()):
        output = schedule.target(embed, noise, time)[row : row + 1]
        # At the noisiest step of the cosine curve nothing is left of the embedding: dividing by 5e-5 loses three digits.
        torch.testing.assert_close(schedule.clean(output, noisy[row : row + 1], step), embed[row : row + 1], atol=5e-3, rtol=0)


@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
def test_timesteps_are_diffusers(spacing: str) -> None:
    reference, schedule = DDPMScheduler(timestep_spacing=spacing), NoiseSchedule()
    for steps in [*range(2, 120), 250, 333, 500, 999, 1000]:
        reference.set_timesteps(steps)
        # trailing: where steps do not divide 1,000, diffusers' list sometimes ends with a -1 too many
        assert schedule.timesteps(steps, spacing) == reference.timesteps[:steps].tolist()
    assert schedule.timesteps(1, spacing) == [999]


def test_timesteps_are_those_of_karlo_and_kandinsky() -> None:
    reference, schedule = UnCLIPScheduler(), NoiseSchedule()
    for steps in range(2, 120):
        reference.set_timesteps(steps)
        assert schedule.timesteps(steps) == reference.timesteps.tolist()


@pytest.mark.long
@pytest.mark.parametrize("steps", [2, 5, 25, 100, 1000])
@pytest.mark.parametrize(("prediction", "clamp"), [("x0", None), ("x0", 0.8), ("eps", 0.8)])
def test_ancestral_sampling_is_unclips(steps: int, clamp: float | None, prediction: str, noise: Tensor) -> None:
    schedule = NoiseSchedule("cosine", prediction=prediction)
    options = {"clip_sample": clamp is not None, "clip_sample_range": clamp or 1.0, "prediction_type": PREDICTION[prediction]}
    mine = ours(schedule, noise, schedule.timesteps(steps), clamp=clamp)
    assert_same_way(mine, theirs(in_float64(UnCLIPScheduler(**options)), noise, steps))


def test_as_published_unclip_is_less_exact_at_its_first_steps(noise: Tensor) -> None:
    """It rounds 1 - (1 - alpha) in float32 where alpha is 6e-7; diffusers' own DDPM does not."""
    schedule = NoiseSchedule()
    mine = torch.stack(ours(schedule, noise, schedule.timesteps(25)))
    published = theirs(UnCLIPScheduler(prediction_type="sample", clip_sample=False), noise, 25)
    torch.testing.assert_close(mine, torch.stack(published), atol=1e-3, rtol=0)


# all spacings of 1,000 steps are one, which test_timesteps_are_diffusers shows
@pytest.mark.long
@pytest.mark.parametrize(
    ("steps", "spacing"), [(1000, "leading"), *product((2, 25, 100), ("linspace", "leading", "trailing"))]
)
@pytest.mark.parametrize("prediction", PREDICTION)
@pytest.mark.parametrize("curve", CURVE)
def test_ancestral_sampling_is_ddpms(steps: int, spacing: str, prediction: str, curve: str, noise: Tensor) -> None:
    schedule = NoiseSchedule(curve, prediction=prediction)
    reference = DDPMScheduler(
        beta_schedule=CURVE[curve],
        prediction_type=PREDICTION[prediction],
        timestep_spacing=spacing,
        clip_sample_range=2.0,
    )
    if steps > 25:  # where its roundings in float32 add up to 1e-4
        reference = in_float64(reference)
    assert_same_way(ours(schedule, noise, schedule.timesteps(steps, spacing), clamp=2.0), theirs(reference, noise, steps))


# Not linspace: there diffusers' DDIM steps to t - T/steps, which is not the timestep that follows.
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("steps", [2, 25, 100])
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("clamp", [None, 0.8])
@pytest.mark.parametrize("prediction", PREDICTION)
def test_ddim(spacing: str, steps: int, eta: float, clamp: float | None, prediction: str, noise: Tensor) -> None:
    reference = DDIMScheduler(
        beta_schedule="linear",
        prediction_type=PREDICTION[prediction],
        timestep_spacing=spacing,
        clip_sample=clamp is not None,
        clip_sample_range=clamp or 1.0,
    )
    schedule = NoiseSchedule("linear", prediction=prediction)
    mine = ours(schedule, noise, schedule.timesteps(steps, spacing), eta=eta, clamp=clamp)
    scale = max(1.0, *(float(x.abs().max()) for x in mine))  # without clamp, eps and v of this network blow up
    other = theirs(reference, noise, steps, eta=eta, use_clipped_model_output=True)
    assert_same_way([x / scale for x in mine], [x / scale for x in other])


def test_one_step_is_what_the_network_says_of_pure_noise(noise: Tensor) -> None:
    schedule = NoiseSchedule()
    (embed,) = ours(schedule, noise, schedule.timesteps(1))
    torch.testing.assert_close(embed, network(noise, torch.full((3,), 999)), atol=0, rtol=0)


def test_ddim_draws_no_noise(noise: Tensor) -> None:
    schedule, generator = NoiseSchedule(), torch.Generator().manual_seed(0)
    before = generator.get_state()
    list(schedule.denoise(network, noise, schedule.timesteps(10), eta=0.0, generator=generator))
    assert torch.equal(before, generator.get_state())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NoiseSchedule("quadratic"), "schedule is 'quadratic'; choose one of 'cosine', 'linear'"),
        (lambda: NoiseSchedule(prediction="sample"), "prediction is 'sample'; choose one of 'x0', 'eps', 'v'"),
        (lambda: NoiseSchedule(steps=1), "num_train_timesteps is 1; it must be 2 or more"),
        (lambda: NoiseSchedule().timesteps(0), "steps is 0; it must be a whole number from 1 to 1000"),
        (lambda: NoiseSchedule().timesteps(1001), "steps is 1001"),
        (lambda: NoiseSchedule().timesteps(5, "even"), "spacing is 'even'; choose one of 'linspace', 'leading', 'trailing'"),
    ],
)
def test_bad_choices(call: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # beartype would be there first
    with pytest.raises(ValueError, match=message):
        call()
