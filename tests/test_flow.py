"""FlowPrior: its loss, its samples, its exchange of weights with diffusion priors, and its place in diffusers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from diffusers import PriorTransformer
from safetensors.torch import load_file

from eclipse_pl.__main__ import main as command
from eclipse_pl.embedding import EmbeddingBatch
from eclipse_pl.loading import load_prior
from eclipse_pl.priors import DiffusionPrior, FlowPrior
from tests.helpers.released_folders import TINY, write_pipeline, write_stock
from tests.helpers.saved_runs import make_run, randomise
from tests.test_diffusion import DIM, LENGTHS, batch_of, space
from tests.test_network import captions, with_time
from tests.test_open_saved import write_base

SMALL = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def prior(**options: Any) -> FlowPrior:
    torch.manual_seed(0)
    made = FlowPrior(space(), **{**SMALL, **options})
    randomise(made)
    return made.eval()


def seeds(*numbers: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in numbers]


@pytest.mark.parametrize("prediction", ["velocity", "x0"])
@pytest.mark.parametrize("schedule", ["flow", "cosine"])
@pytest.mark.parametrize("levels", ["uniform", "logit_normal"])
def test_loss_is_the_error_of_the_velocity(prediction: str, schedule: str, levels: str) -> None:
    made, batch = prior(prediction=prediction, schedule=schedule, sigma=levels), batch_of(captions(LENGTHS, DIM))
    torch.manual_seed(2)
    losses = made.losses(batch)
    torch.manual_seed(2)
    sigma = (torch.rand(5) if levels == "uniform" else torch.randn(5).sigmoid())[:, None]
    noise, embed = torch.randn(5, DIM), (batch.image_embed - made.space.image_mean) / made.space.image_std
    noisy, time = (1 - sigma) * embed + sigma * noise, 1000 * sigma[:, 0]
    scale = 1.0 if schedule == "flow" else (sigma.square() + (1 - sigma).square()).rsqrt()
    if schedule == "cosine":
        time = made.path.read(noisy, sigma[:, 0])[1]
    said = made.network(noisy * scale, batch.text, time)
    velocity = said if prediction == "velocity" else (noisy - said) / sigma
    assert sigma.min() > 0.05
    torch.testing.assert_close(losses["total"], (velocity - (noise - embed)).square().mean(), atol=1e-4, rtol=1e-4)
    assert losses.keys() == {"flow", "total"}


def test_one_step_is_what_the_network_predicts_of_pure_noise() -> None:
    text = captions(LENGTHS, DIM)
    for prediction in ("velocity", "x0"):
        made = prior(prediction=prediction, steps=1, guidance_scale=1.0)
        noise = torch.randn(5, DIM, generator=torch.Generator().manual_seed(3))
        with torch.no_grad():
            said = made.network(noise, text, torch.full((5,), 1000.0))
        expected = made.network.raw(noise - said if prediction == "velocity" else said)
        torch.testing.assert_close(made.sample(text, torch.Generator().manual_seed(3)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sampler", ["euler", "heun", "stochastic"])
def test_a_sample_depends_on_its_caption_and_generator_alone(sampler: str) -> None:
    made, text = prior(steps=4, sampler=sampler), captions(LENGTHS, DIM)
    together = made.sample(text, seeds(0, 1, 2, 3, 4))
    torch.testing.assert_close(made.sample(text.select([4, 1]), seeds(4, 1)), together[[4, 1]], atol=1e-5, rtol=0)
    assert (made.sample(text.select([4]), seeds(1)) - together[[4]]).abs().max() > 1e-3


@pytest.mark.parametrize(("guidance_scale", "passes"), [(1.0, 1), (3.0, 2)])
@pytest.mark.parametrize(("sampler", "calls"), [("euler", 4), ("heun", 7), ("stochastic", 4)])
def test_forward_passes_are_those_of_the_network(
    guidance_scale: float, passes: int, sampler: str, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, rows = prior(steps=4, guidance_scale=guidance_scale, sampler=sampler), []
    step = made.network.continue_prefix
    monkeypatch.setattr(
        made.network, "continue_prefix", lambda noisy, *rest: rows.append(len(noisy)) or step(noisy, *rest)
    )  # fmt: skip
    made.sample(captions(LENGTHS, DIM))
    assert sum(rows) / len(LENGTHS) == made.forward_passes == calls * passes


def test_options_of_the_sampler_can_be_changed() -> None:
    made, text = prior(), captions(LENGTHS, DIM)
    made.sample_with(5, 1.5, "heun")
    same = prior(steps=5, guidance_scale=1.5, sampler="heun")
    assert torch.equal(made.sample(text, seeds(0, 1, 2, 3, 4)), same.sample(text, seeds(0, 1, 2, 3, 4)))
    made.sample_with()
    assert made.sampling == {"steps": 5, "guidance_scale": 1.5, "sampler": "heun"}


def test_training_drops_captions() -> None:
    made, batch = prior(condition_dropout=0.5), batch_of(captions([9] * 100, DIM))
    assert made.dropped(batch.text) is batch.text
    torch.manual_seed(0)
    assert 30 < (made.train().dropped(batch.text).lengths == 2).sum() < 70
    made.losses(batch)["total"].backward()
    assert all(parameter.grad is not None for parameter in made.parameters())


def test_under_autocast_the_loss_is_float32() -> None:
    made = prior()
    with torch.autocast("cpu", torch.bfloat16):
        assert made.losses(batch_of(captions(LENGTHS, DIM)))["total"].dtype == torch.float32
        assert made.sample(captions(LENGTHS, DIM)).dtype == torch.float32


@pytest.mark.long
@pytest.mark.parametrize("prediction", ["velocity", "x0"])
def test_it_learns_what_the_caption_says(prediction: str) -> None:
    """Two captions, two embeddings: after a little training samples of either lie at its own."""
    made = prior(prediction=prediction, steps=10, guidance_scale=1.0, condition_dropout=0.0)
    text = captions([5, 6], DIM)
    images = made.space.image_mean + made.space.image_std * torch.tensor([[1.5] * 8 + [-1.5] * 8, [-1.5] * 8 + [1.5] * 8])
    batch = EmbeddingBatch(text.select([0, 1] * 16), images.repeat(16, 1), torch.arange(32))
    optimizer = torch.optim.Adam(made.parameters(), 3e-3)
    torch.manual_seed(0)
    for _ in range(200):
        optimizer.zero_grad()
        made.train().losses(batch)["total"].backward()
        optimizer.step()
    errors = torch.cdist(made.eval().sample(text, torch.Generator().manual_seed(0)), images)
    assert 2 * errors.diagonal().max() < errors.fliplr().diagonal().min()


# weights of diffusion priors


@pytest.mark.parametrize("curve", ["cosine", "linear"])
def test_a_flow_begins_where_its_diffusion_prior_ended(curve: str, tmp_path: Path) -> None:
    """The same network at the same noise levels: Euler's samples are those of DDIM, guided and clamped."""
    options = {**SMALL, "clamp": 2.0, "guidance_scale": 2.0}
    run = make_run(tmp_path / "run", DiffusionPrior, space(), **options, schedule=curve, eta=0.0, steps=10)
    diffusion, text = load_prior(str(run)), captions(LENGTHS, DIM)
    flow = FlowPrior(space(), **options, prediction="x0", schedule=curve, steps=10, weights=str(run)).eval()
    noise = torch.randn(5, DIM, generator=torch.Generator().manual_seed(1))
    sigma = flow.path.table[diffusion.timesteps]
    scale = float((sigma[0].square() + (1 - sigma[0]).square()).sqrt())
    with torch.no_grad():
        *_, embed = flow.path.denoise(flow.guided(text), noise * scale, [*sigma.tolist(), 0.0], "euler", flow.clamp)
    expected = diffusion.sample(text, torch.Generator().manual_seed(1))
    torch.testing.assert_close(flow.network.raw(embed), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("made", [write_pipeline, write_stock], ids=["with scheduler", "without"])
def test_weights_of_a_released_prior(made: Any, tmp_path: Path) -> None:
    folder = str(made(tmp_path / "released", **TINY))
    flow = FlowPrior(space(), **SMALL, prediction="x0", schedule="cosine", weights=folder)
    assert torch.equal(flow.network.state_dict()["proj_in.weight"], load_file_of(folder)["proj_in.weight"])
    for options in ({}, {"prediction": "x0"}, {"schedule": "cosine"}):
        with pytest.raises(ValueError, match=r"were trained with .*, and the prior has .*(velocity|flow)"):
            FlowPrior(space(), **SMALL, **options, weights=folder)


def load_file_of(folder: str) -> dict[str, torch.Tensor]:
    return load_file(next(Path(folder).rglob("diffusion_pytorch_model.safetensors")))


def test_a_diffusion_prior_takes_no_flow(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", FlowPrior, space(), **SMALL)
    with pytest.raises(ValueError, match="trained with prediction velocity, schedule flow, and the prior has prediction x0"):
        DiffusionPrior(space(), **SMALL, weights=str(run))
    diffusion = make_run(tmp_path / "diffusion", DiffusionPrior, space(), **SMALL)
    with pytest.raises(ValueError, match="trained with prediction x0, schedule cosine, and the prior has prediction velocity"):
        FlowPrior(space(), **SMALL, weights=str(diffusion))


# export


@pytest.mark.parametrize("options", [{}, {"prediction": "x0", "schedule": "cosine", "clamp": 3.0}], ids=["velocity", "x0"])
def test_an_exported_flow_samples_as_before(options: dict[str, Any], tmp_path: Path, capsys: Any) -> None:
    options = {**SMALL, "steps": 3, "sampler": "heun", "sigma": "logit_normal", "shift": 2.0, **options}
    run, out = make_run(tmp_path / "run", FlowPrior, space(), **options), tmp_path / "out"
    assert command(["export", "--prior", str(run), "--out", str(out)]) == 0
    assert ("No scheduler was written" in capsys.readouterr().err) == ("prediction" not in options)
    text, expected = captions(LENGTHS, DIM), load_prior(str(run))
    for where in (out, out / "prior"):
        again = load_prior(str(where))
        assert isinstance(again, FlowPrior) and again.arguments == {**expected.arguments, **again.arguments}
        assert torch.equal(again.sample(text, seeds(0, 1, 2, 3, 4)), expected.sample(text, seeds(0, 1, 2, 3, 4)))
    network, time = PriorTransformer.from_pretrained(out / "prior"), torch.tensor([0.5, 300.0, 999.0, 1.0, 2.0])
    noise = torch.randn(5, DIM)
    with torch.no_grad():
        said = with_time(network, noise, text, time)
        torch.testing.assert_close(expected.network(noise, text, time), said, atol=1e-5, rtol=0)


def test_a_pipeline_that_cannot_sample_it_is_refused(tmp_path: Path, capsys: Any) -> None:
    base = str(write_base(tmp_path / "base", DIM))
    run = make_run(tmp_path / "run", FlowPrior, space(), **SMALL)
    assert command(["export", "--prior", str(run), "--out", str(tmp_path / "out"), "--base", base]) == 2
    said = capsys.readouterr().err
    assert "This prior has flow and velocity. Export without --base" in said
    assert not (tmp_path / "out").exists()
    assert command(["export", "--prior", str(run), "--out", str(tmp_path / "alone")]) == 0
    said = capsys.readouterr().err
    assert "This prior has flow and velocity." in said and "--base" not in said, "a remedy that was followed already"
    run = make_run(tmp_path / "x0", FlowPrior, space(), **SMALL, prediction="x0", schedule="cosine")
    assert command(["export", "--prior", str(run), "--out", str(tmp_path / "out"), "--base", base]) == 0
    assert isinstance(load_prior(str(tmp_path / "out")), FlowPrior)


# mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"condition_dropout": 1.0}, "condition_dropout is 1.0; it must be 0"),
        ({"guidance_scale": -1.0}, "guidance_scale is -1.0; it must be 0 or more"),
        ({"sampler": "dpm"}, "sampler is 'dpm'; choose one of 'euler', 'heun', 'stochastic'"),
        ({"sigma": "mode"}, "sigma is 'mode'; choose one of 'uniform', 'logit_normal'"),
        ({"clamp": 0.0}, "clamp is 0.0; it must be above 0"),
        ({"steps": 0}, "steps is 0; it must be 1 or more"),
        ({"steps": 2.5}, "steps is 2.5; it must be a whole number"),
        ({"num_train_timesteps": 9.5}, "num_train_timesteps is 9.5; it must be a whole number"),
        ({"prediction": "eps"}, "prediction is 'eps'"),
    ],
)
def test_bad_choices(options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # beartype would be there first
    with pytest.raises(ValueError, match=message):
        prior(**options)


def test_guidance_without_condition_dropout_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="will not see the empty prompt") as caught:
        prior(condition_dropout=0.0).sample(captions(LENGTHS, DIM))
    assert len(caught) == 1
    with pytest.raises(ValueError, match="holds no encoded empty prompt"):
        FlowPrior(replace(space(), empty_states=None, empty_embed=None), **SMALL)
