"""OVI on the world's CLIP with 20 steps, and on a small vision transformer."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from eclipse_pl.callbacks.measure import measure
from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.encoders.image_tower import ImageTower
from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.lit_prior import pair_generators
from eclipse_pl.priors.best_of import BestOfPrior
from eclipse_pl.priors.ovi import OviPrior
from eclipse_pl.world.drawing import render
from eclipse_pl.world.encoder import WorldEncoder
from eclipse_pl.world.splits import training_scenes
from tests.helpers.every_prior import batch_of, space
from tests.helpers.shard_sets import make_shard_set
from tests.helpers.tiny_open_clip import write_open_clip


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.fixture(scope="module")
def encoder() -> WorldEncoder:
    return WorldEncoder(device="cpu")


@pytest.fixture(scope="module")
def images(encoder: WorldEncoder) -> torch.Tensor:
    pixels = [encoder.image_transform(render(pair.scene)) for pair in training_scenes(96)]
    return encoder.encode_images(torch.stack(pixels))


@pytest.mark.long
@pytest.mark.parametrize("term", ["mahalanobis", "nearest", "none"])
def test_twenty_steps_lower_the_objective_and_stay_near_images(term: Any, encoder: WorldEncoder, images: torch.Tensor) -> None:
    world = replace(encoder.space(images.mean(0), images.std(0)), image_covariance=torch.cov(images.T))
    prior = OviPrior(world, term, steps=20, weight=1.0).read_with(
        ImageTower(encoder, 64), images if term == "nearest" else None
    )
    text = encoder(["a red circle", "a blue star and a green heart"])
    untouched = {name: tensor.clone() for name, tensor in encoder.model.state_dict().items()}
    found = prior.sample(text, generators(1, 2))
    prior.steps, steps = 1, prior.steps
    first = prior.sample(text, generators(1, 2))
    assert (prior.objective(found, text.text_embed) < prior.objective(first, text.text_embed)).all()
    prior.steps = steps
    alone = prior.sample(text.select([1]), generators(2))
    torch.testing.assert_close(alone[0], found[1], atol=1e-3, rtol=1e-3)
    assert found.shape == (2, 128) and not found.requires_grad
    assert all(torch.equal(untouched[name], tensor) for name, tensor in encoder.model.state_dict().items())
    assert not [name for name in prior.state_dict() if name not in ("mean", "whitening")], "the tower is none of its weights"


@pytest.mark.long
@pytest.mark.parametrize("term", ["mahalanobis", "nearest"])
def test_it_has_a_latent_table(term: Any, encoder: WorldEncoder, images: torch.Tensor, tmp_path: Path) -> None:
    """Of the samples that the prior draws outside of it."""
    world = replace(encoder.space(images.mean(0), images.std(0)), image_covariance=torch.cov(images.T))
    data = EmbeddingDataModule(str(make_shard_set(tmp_path, splits={"val": 8}, space=world)), batch_size=8, workers=0)
    prior = OviPrior(world, term, steps=2).read_with(ImageTower(encoder, 64), images if term == "nearest" else None)
    row = measure(prior, data, ridge_pairs=0)["this prior"]["all"]
    (batch,) = data.val_dataloader()
    found = prior.sample(batch, pair_generators(batch))
    assert row["norm"] == pytest.approx(found.norm(dim=1).mean().item(), rel=1e-3)
    assert row["mse"] == pytest.approx((found - batch.image_embed.float()).square().mean().item(), rel=1e-3)


def test_the_best_of_its_samples_has_no_losses_either() -> None:
    assert not BestOfPrior(space(), "eclipse_pl.priors.ovi.OviPrior", {"term": "none"}).has_losses


def test_the_terms_are_what_they_say(encoder: WorldEncoder, images: torch.Tensor) -> None:
    covariance = torch.cov(images.double().T) + 0.1 * torch.eye(128, dtype=torch.float64)
    world = replace(encoder.space(images.mean(0), images.std(0)), image_covariance=covariance.float())
    text = encoder(["a red circle"]).text_embed
    apart = 1 - F.cosine_similarity(images[:1], text)
    centred = images[:1].double() - images.double().mean(0)
    far = (centred @ torch.linalg.inv(covariance) @ centred.T).item() / 128
    found = OviPrior(world, "mahalanobis", weight=2.0).objective(images[:1], text)
    assert found.item() == pytest.approx(apart.item() + 2 * far, rel=1e-3)
    nearest = OviPrior(world, "nearest", weight=2.0).read_with(ImageTower(encoder, 4), images)
    assert nearest.objective(images[:1], text).item() == pytest.approx(apart.item(), abs=1e-5)
    assert OviPrior(world, "none").objective(images[:1], text).item() == pytest.approx(apart.item(), abs=1e-6)


class LinearTower:
    """Reads two vectors of three numbers each."""

    inputs, width, device = 2, 3, torch.device("cpu")

    def __call__(self, free: torch.Tensor) -> torch.Tensor:
        return free.flatten(1) @ torch.randn(6, space().dim, generator=torch.Generator().manual_seed(4))


def test_its_first_step_is_that_of_adamw_from_a_small_start() -> None:
    text = batch_of([3, 2]).text
    found = OviPrior(space(), "none", steps=1).read_with(LinearTower()).sample(text, generators(1, 2))
    start = 0.02 * torch.stack([torch.randn(6, generator=one) for one in generators(1, 2)])
    start.requires_grad_()
    loss = (1 - F.cosine_similarity(LinearTower()(start), text.text_embed)).sum()
    (gradient,) = torch.autograd.grad(loss, start)
    stepped = start * (1 - 0.02 * 0.01) - 0.02 * gradient.sign()  # with both moments corrected, the first step is the sign
    torch.testing.assert_close(found, LinearTower()(stepped).detach(), atol=1e-6, rtol=1e-5)


@pytest.mark.long
def test_a_transformer_reads_the_embeddings_of_its_patches(tmp_path: Any) -> None:
    model = write_open_clip(tmp_path / "clip")
    encoder = OpenClipEncoder(f"local-dir:{model}", None, device="cpu")
    visual = encoder.model.visual
    patches = len(visual.positional_embedding) - 1
    pixels = torch.randn(2, 3, encoder.image_size, encoder.image_size)
    free = visual.conv1(pixels).flatten(2).transpose(1, 2)
    torch.testing.assert_close(ImageTower(encoder, patches)(free), encoder.encode_images(pixels), atol=1e-5, rtol=1e-4)
    few = ImageTower(encoder, 1)(free[:, :1])
    torch.testing.assert_close(few, ImageTower(encoder, patches)(free[:, :1].expand(-1, patches, -1)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is 0; it must be 1 or more"),
        ({"weight": -1.0}, "weight is -1.0; it must be 0 or more"),
    ],
)
def test_bad_choices(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        OviPrior(space(), **options)


def test_what_is_missing_is_said(encoder: WorldEncoder) -> None:
    with pytest.raises(ValueError, match="holds no covariance"):
        OviPrior(replace(space(), image_covariance=None))
    with pytest.raises(ValueError, match="OviPrior has no image tower"):
        OviPrior(space()).sample(batch_of([2]).text)
    with pytest.raises(ValueError, match="OviPrior is not trained"):
        OviPrior(space()).losses(batch_of([2]))
    with pytest.raises(ValueError, match="no bank was passed"):
        OviPrior(space(), "nearest").read_with(ImageTower(encoder, 4))
    with pytest.raises(ValueError, match="a square number"):
        ImageTower(encoder, 5)
