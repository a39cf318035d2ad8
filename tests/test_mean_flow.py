"""MeanFlowPrior: a flow where r = t, the closed form on Gaussian data, and its derivative."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jaxtyping
import pytest
import torch
from torch import Tensor

from eclipse_pl.__main__ import main as command
from eclipse_pl.embedding import EmbeddingBatch
from eclipse_pl.priors import FlowPrior, MeanFlowPrior
from tests.helpers.saved_runs import make_run, randomise
from tests.test_diffusion import DIM, LENGTHS, batch_of, space
from tests.test_network import captions

SMALL: dict[str, Any] = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def prior(**options: Any) -> MeanFlowPrior:
    torch.manual_seed(0)
    made = MeanFlowPrior(space(), **{**SMALL, **options})
    randomise(made)
    return made.eval()


def test_with_r_equal_to_t_it_is_flow_matching_bit_for_bit(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", FlowPrior, space(), **SMALL)
    flow = FlowPrior(space(), **SMALL, weights=str(run), steps=1, guidance_scale=1.0)
    mean = MeanFlowPrior(space(), **SMALL, weights=str(run), interval_share=0.0, adaptive_power=0.0)
    batch = batch_of(captions(LENGTHS, DIM))
    results = []
    for made in (flow, mean):
        torch.manual_seed(4)
        total = made.train().losses(batch)["total"]
        total.backward()
        results.append(
            [total.detach(), *(made.network.get_parameter(name).grad for name, _ in flow.network.named_parameters())]
        )
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
    samples = [made.eval().sample(batch.text, torch.Generator().manual_seed(1)) for made in (flow, mean)]
    torch.testing.assert_close(*samples, atol=1e-6, rtol=1e-6)


MEAN, SPREAD = 1.0, 0.5


def average(noisy: Tensor, time: Tensor, interval: Tensor) -> Tensor:
    """u of x ~ N(MEAN, SPREAD^2): the flow keeps (z_t - (1-t) MEAN) / sqrt(((1-t) SPREAD)^2 + t^2) constant."""
    time, interval = time[:, None], interval[:, None]

    def deviation(at: Tensor) -> Tensor:
        return (((1 - at) * SPREAD).square() + at.square()).sqrt()

    following = time - interval
    centred = noisy - (1 - time) * MEAN
    arrival = (1 - following) * MEAN + deviation(following) / deviation(time) * centred
    velocity = (time - (1 - time) * SPREAD**2) / deviation(time).square() * centred - MEAN
    return torch.where(interval > 0, (noisy - arrival) / interval.clamp(min=1e-6), velocity)


def analytic(monkeypatch: pytest.MonkeyPatch, **options: Any) -> MeanFlowPrior:
    """A prior whose network is the average velocity of Gaussian data."""
    made = prior(num_train_timesteps=1000, standardise="none", condition_dropout=0.0, **options)
    network = made.network
    monkeypatch.setattr(network, "forward", lambda noisy, _, time, interval: average(noisy, time / 1000, interval / 1000))
    monkeypatch.setattr(network, "prefix", lambda _: SimpleNamespace(select=lambda rows: None))
    monkeypatch.setattr(
        network, "continue_prefix", lambda noisy, _, time, interval: average(noisy, time / 1000, interval / 1000)
    )
    return made


def test_its_instantaneous_velocity_is_that_of_the_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    made, text = analytic(monkeypatch), captions([3] * 200, DIM)
    noisy, time = torch.randn(200, DIM), 0.1 + 0.9 * torch.rand(200)
    interval = time * (0.1 + 0.9 * torch.rand(200))
    change = made.derivative(noisy, text, time, interval, torch.arange(200))
    velocity = average(noisy, time, interval) + interval[:, None] * change
    torch.testing.assert_close(velocity, average(noisy, time, torch.zeros(200)), atol=1e-3, rtol=1e-3)


def test_the_true_average_velocity_has_the_loss_of_the_true_velocity(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other prediction has a lower one: what is left is the noise of eps - x."""
    draw = torch.Generator().manual_seed(0)
    batch = EmbeddingBatch(
        captions([3] * 500, DIM), MEAN + SPREAD * torch.randn(500, DIM, generator=draw), torch.arange(500)
    )  # fmt: skip
    time = (torch.arange(10_000) + 0.5) / 10_000
    noise = SPREAD**2 / (((1 - time) * SPREAD).square() + time.square())  # the variance of eps - x, given z
    for share in (1.0, 0.5, 0.0):
        made = analytic(monkeypatch, interval_share=share, adaptive_power=0.0)
        torch.manual_seed(1)
        # t is the larger of two uniform numbers where r is below t
        expected = ((1 - share) * noise + share * 2 * time * noise).mean()
        torch.testing.assert_close(made.losses(batch)["total"], expected, atol=0, rtol=0.1)


@pytest.mark.parametrize("steps", [1, 3])
def test_any_number_of_steps_samples_the_gaussian(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made, text = analytic(monkeypatch, steps=steps), captions(LENGTHS, DIM)
    noise = torch.randn(5, DIM, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(
        made.sample(text, torch.Generator().manual_seed(2)), MEAN + SPREAD * noise, atol=1e-4, rtol=1e-4
    )  # fmt: skip


def test_the_derivative_is_the_difference_of_two_predictions() -> None:
    made, text = prior(num_train_timesteps=2), captions(LENGTHS, DIM)
    noisy, time = torch.randn(5, DIM), torch.tensor([0.9, 0.5, 0.7, 0.3, 0.8])
    interval, step = time / 2, 1e-2
    with torch.no_grad():
        velocity = made.network(noisy, text, 2 * time, torch.zeros(5))
        later, earlier = (
            made.network(noisy + sign * step * velocity, text, 2 * (time + sign * step), 2 * (interval + sign * step))
            for sign in (1, -1)
        )
    change = made.derivative(noisy, text, time, interval, torch.arange(3))
    assert not change.requires_grad
    torch.testing.assert_close(change, ((later - earlier) / (2 * step))[:3], atol=1e-2, rtol=1e-2)


def test_the_loss_is_weighted_by_its_own_size() -> None:
    batch = batch_of(captions(LENGTHS, DIM))
    totals = []
    for power in (0.0, 1.0):
        made = prior(adaptive_power=power)
        torch.manual_seed(3)
        losses = made.losses(batch)
        totals.append(losses)
    torch.testing.assert_close(totals[0]["total"].detach(), totals[1]["flow"])
    torch.testing.assert_close(totals[1]["total"].detach(), torch.tensor(1.0), atol=1e-3, rtol=0)
    totals[1]["total"].backward()
    assert all(parameter.grad is not None for parameter in made.parameters())


def test_both_times_have_the_distribution_of_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    made, batch = prior(sigma="logit_normal", shift=3.0, interval_share=1.0), batch_of(captions(LENGTHS, DIM))
    read: list[Tensor] = []
    forward = made.network.forward
    monkeypatch.setattr(
        made.network, "forward", lambda noisy, text, *times: read.extend(times) or forward(noisy, text, *times)
    )
    torch.manual_seed(7)
    made.losses(batch)
    torch.manual_seed(7)
    one = made.path.draw(5, "logit_normal", torch.device("cpu"))
    torch.randn(5, DIM), torch.rand(5)
    other = made.path.draw(5, "logit_normal", torch.device("cpu"))
    torch.testing.assert_close(read, [1000 * torch.maximum(one, other), 1000 * (one - other).abs()])


@pytest.mark.parametrize("steps", [1, 3])
def test_the_clamp_bounds_the_last_prediction(steps: int) -> None:
    free, bounded, text = prior(steps=steps), prior(steps=steps, clamp=0.5), captions(LENGTHS, DIM)
    unbounded = free.network.standardise(free.sample(text, torch.Generator().manual_seed(1)))
    expected = free.network.raw(unbounded.clamp(-0.5, 0.5))
    torch.testing.assert_close(bounded.sample(text, torch.Generator().manual_seed(1)), expected, atol=1e-5, rtol=1e-5)
    assert unbounded.abs().max() > 1


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_the_weight_of_a_pair_has_its_floor_and_no_gradient(power: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a network that is nearly right, so that the floor counts."""
    made, batch = prior(adaptive_power=power, interval_share=0.0), batch_of(captions(LENGTHS, DIM))
    torch.manual_seed(6)
    torch.rand(5)
    velocity = torch.randn(5, DIM) - made.network.standardise(batch.image_embed)
    said = (velocity + 0.01 * torch.randn(5, DIM)).requires_grad_()
    monkeypatch.setattr(made.network, "forward", lambda *_: said)
    torch.manual_seed(6)
    total = made.losses(batch)["total"]
    errors = (said - velocity).square().sum(1)
    expected = (errors / (errors + 0.001).detach() ** power).mean()
    torch.testing.assert_close(total, expected, atol=1e-4, rtol=1e-4)
    (ours,), (reference,) = torch.autograd.grad(total, said), torch.autograd.grad(expected, said)
    torch.testing.assert_close(ours, reference, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("share", "pairs"), [(0.5, 1), (0.25, 2), (0.01, 5)])
def test_a_small_batch_has_an_interval_too(share: float, pairs: int) -> None:
    made, batch = prior(interval_share=share), batch_of(captions(LENGTHS[:pairs], DIM))
    made.losses(batch)["total"].backward()
    assert made.network.interval_embedding is not None
    weight = made.network.interval_embedding.linear_1.weight.grad
    assert weight is not None and weight[:, weight.shape[1] // 2 :].any(), "of an interval of 0 all sines are 0"


def test_bfloat16() -> None:
    made, batch = prior(), batch_of(captions(LENGTHS, DIM))
    with torch.autocast("cpu", torch.bfloat16):
        narrow = made.losses(batch)
    assert narrow["total"].dtype == torch.float32 and narrow["total"].isfinite()
    text, time = batch.text, torch.full((5,), 0.8)
    inputs = (torch.randn(5, DIM), text, time, time / 2, torch.arange(5))
    exact = made.derivative(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(made.derivative(*inputs), exact), "the derivative is in float32 there too"
    with pytest.raises(
        ValueError, match="The weights are bfloat16: the derivative in MeanFlow's loss would be rounding noise"
    ):
        made.to(torch.bfloat16).losses(batch)


@pytest.mark.long
def test_one_pass_learns_to_sample() -> None:
    """From nothing: half of the images of one caption are at -1, half at 1. Their mean, which a regression predicts, is 0."""
    draw, text = torch.Generator().manual_seed(0), captions([4], DIM).select([0] * 64)
    torch.manual_seed(0)
    options = {"num_layers": 1, "num_attention_heads": 4, "attention_head_dim": 16}
    made = MeanFlowPrior(space(), **options, standardise="none", condition_dropout=0.0)
    optimizer = torch.optim.Adam(made.parameters(), 3e-3)
    for _ in range(250):
        optimizer.zero_grad()
        images = (2.0 * torch.randint(0, 2, (64, 1), generator=draw) - 1).repeat(1, DIM)
        made.train().losses(EmbeddingBatch(text, images, torch.arange(64)))["total"].backward()
        optimizer.step()
    sample = made.eval().sample(text, torch.Generator().manual_seed(1))
    assert sample.std(1).mean() < 0.4 and sample.mean(1).abs().mean() > 0.7 and sample.mean(1).std() > 0.7


def test_weights_and_places_that_it_does_not_share(tmp_path: Path, capsys: Any) -> None:
    run = make_run(tmp_path / "x0", FlowPrior, space(), **SMALL, prediction="x0")
    with pytest.raises(ValueError, match="trained with prediction x0, and the prior has prediction velocity"):
        MeanFlowPrior(space(), **SMALL, weights=str(run))
    run = make_run(tmp_path / "mean", MeanFlowPrior, space(), **SMALL)
    again = MeanFlowPrior(space(), **SMALL, weights=str(run))
    assert again.network.interval_embedding is not None and again.network.interval_embedding.linear_2.bias.abs().max() > 0
    with pytest.raises(ValueError, match=r"4 unknown, such as network\.interval_embedding"):
        FlowPrior(space(), **SMALL, weights=str(run))
    assert command(["export", "--prior", str(run), "--out", str(tmp_path / "out")]) == 2
    assert "only EclipsePrior, DiffusionPrior and FlowPrior have a place in diffusers" in capsys.readouterr().err


def test_it_begins_with_an_exported_flow_as_with_its_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "flow", FlowPrior, space(), **SMALL)
    assert command(["export", "--prior", str(run), "--out", str(tmp_path / "out")]) == 0
    ours, theirs = (MeanFlowPrior(space(), **SMALL, weights=str(source)).state_dict() for source in (tmp_path / "out", run))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs if "interval_embedding" not in key)
    with pytest.raises(ValueError, match="trained with source noise, and the prior has source text"):
        FlowPrior(space(), **SMALL, source="text", weights=str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interval_share": 1.5}, "interval_share is 1.5; it must be between 0"),
        ({"adaptive_power": -1.0}, "adaptive_power is -1.0; it must be between 0"),
        ({"sigma": "mode"}, "sigma is 'mode'"),
        ({"steps": 0}, "steps is 0; it must be 1 or more"),
    ],
)
def test_bad_choices(options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # beartype would be there first
    with pytest.raises(ValueError, match=message):
        prior(**options)
