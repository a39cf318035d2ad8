"""DiffusionPrior: what it is trained on, and its samples against the plain loop and against Kandinsky's pipeline."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jaxtyping
import pytest
import torch
from diffusers import PriorTransformer, UnCLIPScheduler
from torch import Tensor
from torch.nn import functional as F

from eclipse_pl.embedding import ClipSpace, EmbeddingBatch, TextCondition
from eclipse_pl.priors.diffusion import DiffusionPrior
from tests.helpers.shard_sets import make_space
from tests.test_network import captions, padded
from tests.test_schedule import in_float64

DIM = 16
LENGTHS = [3, 12, 7, 77, 2]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def space() -> ClipSpace:
    draw = torch.Generator().manual_seed(1)
    made = make_space(DIM, DIM)
    return replace(made, image_mean=torch.randn(DIM, generator=draw), image_std=torch.rand(DIM, generator=draw) + 0.5)


def prior(**options: Any) -> DiffusionPrior:
    """Random everywhere, as `test_network.network`."""
    torch.manual_seed(0)
    made = DiffusionPrior(space(), **{"num_layers": 3, "num_attention_heads": 2, "attention_head_dim": 8, **options})
    torch.nn.init.normal_(made.network.positional_embedding, std=0.3)
    torch.nn.init.normal_(made.network.prd_embedding, std=0.3)
    return made.eval()


def batch_of(text: TextCondition) -> EmbeddingBatch:
    draw = torch.Generator().manual_seed(5)
    return EmbeddingBatch(text, torch.randn(len(text), DIM, generator=draw), torch.arange(len(text)))


def plain_loop(made: DiffusionPrior, text: TextCondition) -> Any:
    """Guidance with the whole sequence in every step, which is what `DiffusionPrior.guided` must equal."""
    empty = text.replaced(torch.ones(len(text), dtype=torch.bool), made.space.empty_prompt())

    def predict(noisy: Tensor, time: Tensor) -> Tensor:
        captioned, unconditional = made.network(noisy, text, time), made.network(noisy, empty, time)
        return unconditional + made.guidance_scale * (captioned - unconditional)

    return predict


@pytest.mark.long
@pytest.mark.parametrize("guidance_scale", [1.0, 4.0, 0.0])
@pytest.mark.parametrize("lengths", [LENGTHS, [9], [4, 4, 4], [0, 3]], ids=str)
def test_constant_keys_and_values_change_nothing(guidance_scale: float, lengths: list[int]) -> None:
    made, text = prior(guidance_scale=guidance_scale), captions(lengths, DIM)
    noisy, time = torch.randn(len(lengths), DIM), torch.full((len(lengths),), 321)
    with torch.no_grad():
        torch.testing.assert_close(made.guided(text)(noisy, time), plain_loop(made, text)(noisy, time), atol=1e-5, rtol=0)
        noise = torch.randn(len(lengths), DIM)
        ways: list[Iterator[Tensor]] = [
            made.schedule.denoise(predict, noise, made.timesteps, 1.0, 10.0, torch.Generator().manual_seed(3))
            for predict in (made.guided(text), plain_loop(made, text))
        ]
        for ours, plain in zip(*ways, strict=True):
            torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)


def test_sampling_is_that_of_kandinskys_prior_pipeline() -> None:
    """The loop of KandinskyV22PriorPipeline, around diffusers' own network and scheduler with the same weights."""
    made, text = prior(clamp=2.0), captions(LENGTHS, DIM)
    network = PriorTransformer(2, 8, 3, DIM)
    network.load_state_dict(made.network.state_dict())
    scheduler = in_float64(UnCLIPScheduler(clip_sample_range=2.0, prediction_type="sample"))
    scheduler.set_timesteps(25)
    (states, mask), empty = padded(text), made.space.empty_prompt()
    empty_states, empty_mask = padded(empty)
    repeated = len(LENGTHS)
    generator = torch.Generator().manual_seed(11)
    latents = torch.randn(repeated, DIM, generator=generator)
    with torch.no_grad():
        for number, time in enumerate(scheduler.timesteps):
            empty_said, said = network(
                torch.cat([latents, latents]),
                time,
                torch.cat([empty.text_embed.expand(repeated, -1), text.text_embed]),
                torch.cat([empty_states.expand(repeated, -1, -1), states]),
                torch.cat([empty_mask.expand(repeated, -1), mask]),
            ).predicted_image_embedding.chunk(2)
            guided = empty_said + 4.0 * (said - empty_said)
            following = scheduler.timesteps[number + 1] if number < 24 else None
            latents = scheduler.step(guided, time, latents, prev_timestep=following, generator=generator).prev_sample.float()
        expected = network.post_process_latents(latents)
    sampled = made.sample(text, torch.Generator().manual_seed(11))
    torch.testing.assert_close(sampled, expected.float(), atol=1e-5, rtol=1e-5)


def test_a_sample_depends_on_its_caption_and_generator_alone() -> None:
    made, text = prior(), captions(LENGTHS, DIM)
    together = made.sample(text, [torch.Generator().manual_seed(row) for row in range(5)])
    for row in (4, 0, 2):
        apart = made.sample(text.select([row]), [torch.Generator().manual_seed(row)])
        torch.testing.assert_close(apart[0], together[row], atol=1e-5, rtol=0)


def test_standardised_inside_and_raw_outside() -> None:
    """A network that says nothing but zero samples the mean image."""
    made = prior()
    torch.nn.init.zeros_(made.network.proj_to_clip_embeddings.weight)
    torch.nn.init.zeros_(made.network.proj_to_clip_embeddings.bias)
    torch.testing.assert_close(made.sample(captions([4], DIM))[0], made.space.image_mean)
    batch = batch_of(captions(LENGTHS, DIM))
    standardised = (batch.image_embed - made.space.image_mean) / made.space.image_std
    torch.testing.assert_close(made.losses(batch)["diffusion"], standardised.square().mean())


@pytest.mark.parametrize("prediction", ["x0", "eps", "v"])
def test_loss_is_the_error_at_the_drawn_steps(prediction: str) -> None:
    made, batch = prior(prediction=prediction), batch_of(captions(LENGTHS, DIM))
    torch.manual_seed(2)
    losses = made.losses(batch)
    torch.manual_seed(2)
    time = torch.randint(1000, (5,))
    noise, embed = torch.randn(5, DIM), made.network.standardise(batch.image_embed)
    alpha_bar = made.schedule.alpha_bar[time][:, None]
    said = made.network(alpha_bar.sqrt() * embed + (1 - alpha_bar).sqrt() * noise, batch.text, time)
    velocity = alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * embed
    target = {"x0": embed, "eps": noise, "v": velocity}[prediction]
    torch.testing.assert_close(losses["total"], F.mse_loss(said, target))
    assert losses.keys() == {"diffusion", "total"}


@pytest.mark.long
def test_captions_are_dropped_in_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    made, batch = prior(condition_dropout=0.5), batch_of(captions([9] * 400, DIM))
    seen: list[TextCondition] = []
    forward = made.network.forward
    monkeypatch.setattr(made.network, "forward", lambda noise, text, time: seen.append(text) or forward(noise, text, time))
    torch.manual_seed(0)
    made.losses(batch)
    assert seen.pop().lengths.tolist() == [9] * 400
    made.train().losses(batch)
    text, empty = seen.pop(), made.space.empty_prompt()
    dropped = text.lengths == 2
    assert 150 < dropped.sum() < 250
    for row, one in enumerate(text.split()):
        expected = empty if dropped[row] else batch.text.select([row])
        assert torch.equal(one.text_states, expected.text_states) and torch.equal(one.text_embed, expected.text_embed)


def test_replaced_equals_selecting_one_by_one() -> None:
    text, other = captions(LENGTHS, DIM), captions([4], DIM, seed=9)
    for rows in ([], [0], [4], [1, 3], [0, 1, 2, 3, 4]):
        chosen = torch.zeros(5, dtype=torch.bool)
        chosen[rows] = True
        replaced = text.replaced(chosen, other)
        expected = TextCondition.join([other if row in rows else text.select([row]) for row in range(5)])
        assert torch.equal(replaced.text_states, expected.text_states)
        assert torch.equal(replaced.text_embed, expected.text_embed)
        assert torch.equal(replaced.lengths, expected.lengths)


@pytest.mark.long
def test_it_learns_what_the_caption_says() -> None:
    """Two captions, two embeddings: after a little training samples of either lie at its own."""
    made = prior(steps=10, guidance_scale=1.0, condition_dropout=0.0)
    text = captions([5, 6], DIM)
    images = made.space.image_mean + made.space.image_std * torch.tensor([[1.5] * 8 + [-1.5] * 8, [-1.5] * 8 + [1.5] * 8])
    batch = EmbeddingBatch(text.select([0, 1] * 16), images.repeat(16, 1), torch.arange(32))
    optimizer = torch.optim.Adam(made.parameters(), 3e-3)
    torch.manual_seed(0)
    for _ in range(150):
        optimizer.zero_grad()
        made.train().losses(batch)["total"].backward()
        optimizer.step()
    samples = made.eval().sample(text, torch.Generator().manual_seed(0))
    errors = torch.cdist(samples, images)
    assert errors.diagonal().max() < 1.5 < 4 < errors.fliplr().diagonal().min()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"condition_dropout": 1.0}, "condition_dropout is 1.0; it must be 0"),
        ({"guidance_scale": -1.0}, "guidance_scale is -1.0; it must be 0 or more"),
        ({"eta": 1.5}, "eta is 1.5; it must be between 0"),
        ({"clamp": 0.0}, "clamp is 0.0; it must be above 0"),
        ({"steps": 0}, "steps is 0; it must be a whole number from 1 to 1000"),
        ({"steps": 2.5}, "steps is 2.5; it must be a whole number"),
        ({"clamp": math.inf}, "clamp is inf; it must be above 0"),
        ({"schedule": "sigmoid"}, "schedule is 'sigmoid'"),
        ({"num_layers": 0}, "num_layers is 0"),
    ],
)
def test_bad_choices(options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # beartype would be there first
    with pytest.raises(ValueError, match=message):
        prior(**options)


def test_options_of_the_sampler_can_be_changed() -> None:
    made, text = prior(), captions(LENGTHS, DIM)
    made.sample_with(5, 1.5, 0.0)
    same = prior(steps=5, guidance_scale=1.5, eta=0.0)
    one, other = (each.sample(text, torch.Generator().manual_seed(1)) for each in (made, same))
    assert torch.equal(one, other) and made.sampling == {"steps": 5, "guidance_scale": 1.5, "eta": 0.0}
    made.sample_with()
    assert made.sampling == same.sampling
    with pytest.raises(ValueError, match=r"eta is 1\.5; it must be between 0"):
        made.sample_with(eta=1.5)


def test_guidance_without_condition_dropout_is_warned_of_once() -> None:
    with pytest.warns(UserWarning, match="will not see the empty prompt") as caught:
        made = prior(condition_dropout=0.0)
        for _ in range(2):  # where it would be said again and again
            made.train().losses(batch_of(captions(LENGTHS, DIM)))
            made.eval().sample(captions(LENGTHS, DIM))
    assert len(caught) == 1
    prior(condition_dropout=0.0, guidance_scale=1.0)  # warnings are errors here


def test_a_space_without_empty_prompt() -> None:
    bare = replace(space(), empty_states=None, empty_embed=None)
    with pytest.raises(ValueError, match="holds no encoded empty prompt"):
        DiffusionPrior(bare, num_layers=1)
    DiffusionPrior(bare, num_layers=1, condition_dropout=0.0, guidance_scale=1.0)


@pytest.mark.parametrize("std", [0.0, float("nan")])
def test_a_space_without_statistics(std: float) -> None:
    unknown = replace(space(), image_std=torch.full((DIM,), std))
    with pytest.raises(ValueError, match="16 dimensions cannot be standardised"):
        DiffusionPrior(unknown, num_layers=1)
    DiffusionPrior(unknown, num_layers=1, standardise="none")


@pytest.mark.parametrize(("guidance_scale", "expected"), [(1.0, 3), (4.0, 6), (0.5, 6)])
def test_forward_passes_are_those_of_the_network(
    guidance_scale: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = prior(steps=3, guidance_scale=guidance_scale)
    rows: list[int] = []
    step = made.network.continue_prefix

    def counted(noisy: Tensor, *rest: Any) -> Tensor:
        rows.append(len(noisy))
        return step(noisy, *rest)

    monkeypatch.setattr(made.network, "continue_prefix", counted)
    made.sample(captions(LENGTHS, DIM))
    assert sum(rows) / len(LENGTHS) == made.forward_passes == expected
