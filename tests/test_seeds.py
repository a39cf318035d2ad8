"""Random numbers of a training step: a function of the run's seed, the epoch, the batch and the rank."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from eclipse_pl import lit_prior
from eclipse_pl.lit_prior import LitPrior, no_optimizer
from eclipse_pl.priors import EclipsePrior
from eclipse_pl.training.seeds import place_seed, seed_generators
from tests.helpers.every_prior import SIZES, batch_of, build

PLACE = {"seed": 3, "epoch": 1, "batch": 4, "rank": 2}


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> LitPrior:
    monkeypatch.setattr(lit_prior, "step_is_logged", lambda trainer: False)
    return LitPrior(build(EclipsePrior, SIZES), no_optimizer)


def loss_at(module: LitPrior, **changed: int) -> float:
    place = {**PLACE, **changed}
    trainer = {"current_epoch": place["epoch"], "global_step": 0, "global_rank": place["rank"], "should_stop": False}
    module._trainer = SimpleNamespace(**trainer, accumulate_grad_batches=1, is_last_batch=False)
    module.seed = place["seed"]
    torch.rand(7)  # what was drawn before does not matter
    loss = module.training_step(batch_of([3, 5, 4]), place["batch"])
    assert loss is not None
    return loss.item()


def test_a_place_has_its_own_numbers_again(module: LitPrior) -> None:
    assert loss_at(module) == loss_at(module)


@pytest.mark.parametrize("part", PLACE)
def test_neighbouring_places_have_other_numbers(module: LitPrior, part: str) -> None:
    assert loss_at(module) != loss_at(module, **{part: PLACE[part] + 1})


def test_parts_of_a_place_do_not_stand_for_each_other() -> None:
    assert len({place_seed(0, 1, 2, 3), place_seed(0, 2, 1, 3), place_seed(3, 1, 2, 0), place_seed(0, 1, 2, 3, 0)}) == 4


def test_the_numbers_of_a_seed_are_those_of_torch() -> None:
    seed_generators(torch.device("cpu"), 5)
    ours = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(ours, torch.rand(3))
