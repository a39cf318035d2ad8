"""Whitened predictions: inverse of each other, kept in checkpoints without the covariance, and refused where impossible."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from eclipse_pl.embedding import ClipSpace
from eclipse_pl.loading import load_prior
from eclipse_pl.losses import projection_loss
from eclipse_pl.priors import DiffusionPrior, EclipsePrior, FlowPrior, MLPPrior, Prior
from eclipse_pl.priors.write_released import write_released
from tests.helpers.saved_runs import make_run
from tests.test_diffusion import DIM, batch_of
from tests.test_diffusion import space as plain_space
from tests.test_network import captions

SMALL = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8}
KINDS: list[tuple[type[Prior], dict[str, Any]]] = [
    (EclipsePrior, SMALL),
    (MLPPrior, {"num_layers": 1, "width": 8}),
    (DiffusionPrior, SMALL | {"steps": 3}),
    (FlowPrior, SMALL | {"steps": 3}),
]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def embeds() -> torch.Tensor:
    """Embeddings whose variance falls by four orders of magnitude, around a mean far from zero."""
    draw = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(DIM, DIM, generator=draw))[0]
    return torch.randn(4000, DIM, generator=draw) @ torch.diag(torch.logspace(0.5, -1.5, DIM)) @ basis + 3


def space() -> ClipSpace:
    return replace(
        plain_space(), image_mean=embeds().mean(0), image_std=embeds().std(0), image_covariance=torch.cov(embeds().T)
    )


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_all_directions_vary_alike_inside_and_nothing_changes_outside(kind: type[Prior], options: dict[str, Any]) -> None:
    network: Any = kind(space(), **options, standardise="full").network
    white = network.standardise(embeds())
    torch.testing.assert_close(torch.cov(white.T), torch.eye(DIM), atol=1e-2, rtol=0)
    torch.testing.assert_close(network.raw(white), embeds(), atol=1e-4, rtol=1e-4)
    raw = embeds()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(network.standardise(raw), white)


def test_projection_compares_whitened_embeddings() -> None:
    prior = EclipsePrior(space(), **SMALL, standardise="full", noise="zero")
    batch = replace(batch_of(captions([3, 9], DIM)), image_embed=embeds()[:2])
    predicted, true = (prior.network.standardise(one) for one in (prior.sample(batch.text), batch.image_embed))
    torch.testing.assert_close(prior.losses(batch)["projection"], projection_loss(predicted, true), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_a_checkpoint_samples_without_the_covariance(kind: type[Prior], options: dict[str, Any], tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", kind, space(), **options, standardise="full")
    loaded = load_prior(str(run))
    assert loaded.space.image_covariance is None
    filled = kind(plain_space(), **options, standardise="full", weights=str(run))
    text = captions([3, 9], DIM)
    one, other = (prior.eval().sample(text, torch.Generator().manual_seed(1)) for prior in (loaded, filled))
    assert torch.equal(one, other) and one.isfinite().all()
    for standardise in ("none", "diagonal"):
        with pytest.raises(ValueError, match="predict whitened embeddings: set the prior's standardise to full"):
            kind(space(), **options, standardise=standardise, weights=str(run))
    plain = make_run(tmp_path / "plain", kind, space(), **options)
    with pytest.raises(ValueError, match="predict no whitened embeddings: set the prior's standardise to none or diagonal"):
        kind(space(), **options, standardise="full", weights=str(plain))


def test_a_space_without_covariance_says_how_to_get_one() -> None:
    prior = EclipsePrior(plain_space(), **SMALL, standardise="full")
    with pytest.raises(ValueError, match=r"holds no covariance .* Run the command that made the shards again"):
        prior.losses(batch_of(captions([3, 9], DIM)))
    broken = replace(space(), image_covariance=torch.full((DIM, DIM), float("nan")))
    with pytest.raises(ValueError, match="their covariance is zero or not finite"):
        EclipsePrior(broken, **SMALL, standardise="full")


@pytest.mark.parametrize("kind", [DiffusionPrior, FlowPrior])
def test_a_whitened_prior_of_many_steps_is_not_exported(kind: type[Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="this prior denoises whitened embeddings"):
        write_released(kind(space(), **SMALL, standardise="full"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
