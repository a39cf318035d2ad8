"""Random numbers of a training step: a function of the run's seed, the epoch, the batch and the rank."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch

from eclipse_pl import lit_prior
from eclipse_pl.callbacks.measure import measure
from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.lit_prior import LitPrior, no_optimizer
from eclipse_pl.priors import EclipsePrior
from eclipse_pl.training.seeds import place_seed, seed_generators, seeded
from tests.helpers.every_prior import SIZES, batch_of, build
from tests.helpers.shard_sets import make_shard_set

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


def test_generators_go_on_where_they_were() -> None:
    torch.manual_seed(5)
    first, second = torch.rand(2, 3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), first)
    with torch.inference_mode(), seeded(torch.device("cpu"), 6):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), second) and torch.initial_seed() == 5
    torch.manual_seed(6)
    assert torch.equal(torch.rand(3), inside)


def test_a_run_has_the_seed_of_its_caller_after_a_measurement(tmp_path: Path) -> None:
    data = EmbeddingDataModule(str(make_shard_set(tmp_path, splits={"train": 32, "val": 16})), batch_size=8, workers=0)
    module = LitPrior(EclipsePrior(data.space, **SIZES), lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(max_steps=1, accelerator="cpu", use_distributed_sampler=False, log_every_n_steps=1, **quiet)
    torch.manual_seed(7)
    measure(module.prior, data, ridge_pairs=0)
    trainer.validate(module, data, verbose=False)
    trainer.fit(module, data)
    assert (module.seed, data.seed) == (7, 7)
