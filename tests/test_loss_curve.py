"""1, 2 and 4 processes at one global batch have one loss curve; what differs by rank by definition does differ."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import eclipse_pl.priors
from eclipse_pl.lit_prior import LitPrior
from eclipse_pl.priors.baselines import Baseline
from eclipse_pl.priors.prior import Prior
from tests.helpers.curves import (
    ADAMW,
    PRIORS,
    SGD,
    THIS_RANK,
    Curve,
    Drawing,
    batch_of,
    curve_of,
    curve_of_blocks,
    data_of,
    joined,
    noise_of,
)
from tests.helpers.noise_by_pair import draw_by_pair
from tests.helpers.ranks import on_ranks, torchrun
from tests.helpers.recorder import trainer_of
from tests.helpers.shard_sets import make_shard_set

LOSS = {"rel": 5e-6, "abs": 0}
"""Float32: ranks add up a loss in another order. Measured: 1.5e-6."""
WEIGHTS = 2e-5
"""Of SGD. Adam makes whole steps of the rounding in gradients that are zero (those of key biases). Measured: 5e-6."""
OPTIONS = {"static_graph": True, "gradient_as_bucket_view": True}


def with_ranks(test: Any) -> Any:
    return pytest.mark.processes(pytest.mark.long(test))


def _runs(shards: Path, processes: int) -> dict[str, Any]:
    """All runs of one number of processes, so that they are started once."""
    runs: dict[str, Any] = {name: curve_of(make, shards, processes) for name, make in PRIORS.items()}
    runs |= {f"{name}, SGD": curve_of(make, shards, processes, SGD) for name, make in PRIORS.items()}
    eclipse = PRIORS["EclipsePrior"]
    runs["accumulated"] = curve_of(eclipse, shards, processes, max_steps=3, accumulate_grad_batches=2)
    runs["this rank"] = curve_of(THIS_RANK, shards, processes)
    if processes > 1:
        runs["static graph"] = curve_of(eclipse, shards, processes, strategy=OPTIONS)
        runs["noise"] = noise_of(shards, processes)
    return runs


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shard_set(tmp_path_factory.mktemp("curves") / "shards", splits={"train": 100, "val": 16})


@pytest.fixture(scope="module")
def alone(shards: Path) -> dict[str, Curve]:
    return _runs(shards, 1)


@pytest.fixture(scope="module", params=[2, 4])
def by_rank(request: pytest.FixtureRequest, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    results = on_ranks(tmp_path_factory.mktemp("ranks"), torchrun(request.param), _runs, shards, request.param)
    return {name: [result[name] for result in results] for name in results[0]}


def test_every_prior_that_is_trained_by_gradient_is_compared() -> None:
    names = [module.name for module in pkgutil.iter_modules(eclipse_pl.priors.__path__)]
    modules = [importlib.import_module(f"eclipse_pl.priors.{name}") for name in names]
    kinds = {kind for module in modules for kind in vars(module).values() if inspect.isclass(kind) and issubclass(kind, Prior)}
    trained = {kind.__name__ for kind in kinds if not issubclass(kind, Baseline) and not any(map(derived(kind), kinds))}
    assert trained - {"OviPrior"} == {name.split(",")[0] for name in PRIORS}, "OviPrior has no weights"


def derived(kind: type) -> Any:
    return lambda other: other is not kind and issubclass(other, kind)


@with_ranks
@pytest.mark.parametrize("name", [*PRIORS, *(f"{name}, SGD" for name in PRIORS), "accumulated"])
def test_one_loss_curve(alone: dict[str, Curve], by_rank: dict[str, list[Any]], name: str) -> None:
    """Where random numbers belong to pairs; those of a run belong to ranks."""
    together, curve = joined(by_rank[name]), alone[name]
    assert together.pairs == [sorted(pairs) for pairs in curve.pairs], "the batches depend on the number of processes"
    assert together.losses == pytest.approx(curve.losses, **LOSS)
    assert len(curve.losses) == 6 and max(curve.losses) > 1.01 * min(curve.losses), "the curve is flat"
    if "SGD" in name:
        for key, tensor in curve.weights.items():
            np.testing.assert_allclose(together.weights[key], tensor, rtol=0, atol=WEIGHTS, err_msg=key)


@with_ranks
def test_negatives_of_this_rank_are_blocks_of_the_global_batch(
    alone: dict[str, Curve], by_rank: dict[str, list[Any]], shards: Path
) -> None:
    ranks = by_rank["this rank"]
    together = joined(ranks)
    assert together.losses != pytest.approx(alone["this rank"].losses, rel=1e-2), "fewer negatives are another loss"
    blocks = list(zip(*(curve.pairs for curve in ranks), strict=True))
    assert together.losses == pytest.approx(curve_of_blocks(THIS_RANK, shards, blocks, ADAMW).losses, **LOSS)


@with_ranks
def test_a_static_graph_and_bucket_views_change_nothing(alone: dict[str, Curve], by_rank: dict[str, list[Any]]) -> None:
    assert joined(by_rank["static graph"]).losses == pytest.approx(alone["EclipsePrior"].losses, **LOSS)


@with_ranks
def test_noise_differs_between_ranks_epochs_and_steps(by_rank: dict[str, list[Any]]) -> None:
    drawn = by_rank["noise"]
    assert [sorted(of_rank) for of_rank in drawn] == [[(epoch, batch) for epoch in range(2) for batch in range(3)]] * len(
        drawn
    )
    everything = [noise for of_rank in drawn for noise in of_rank.values()]
    assert len(set(everything)) == len(everything) == 6 * len(drawn)


@pytest.mark.long
@pytest.mark.parametrize("name", PRIORS)
def test_accumulated_gradients(shards: Path, name: str) -> None:
    """Four micro-batches are the mean of four losses: that of their union where no pair is another's negative."""
    steps = [[list(range(16 * step + 4 * part, 16 * step + 4 * part + 4)) for part in range(4)] for step in range(3)]
    micro = _fitted(shards, PRIORS[name], steps)
    assert micro == pytest.approx(curve_of_blocks(PRIORS[name], shards, steps).losses, **LOSS)
    union = _fitted(shards, PRIORS[name], [[list(chain(*step))] for step in steps])
    without = (
        "EclipsePrior, projection",
        "DiffusionPrior",
        "FlowPrior",
        "FlowPrior, text",
        "MeanFlowPrior",
        "BestOfPrior",
        "LoraPrior",
    )
    has_negatives = name not in without
    assert (micro != pytest.approx(union, rel=1e-2)) if has_negatives else (micro == pytest.approx(union, **LOSS))


class Given(list):
    """Batches as a loader: Lightning takes a plain list for many loaders."""


def _fitted(shards: Path, make: Any, steps: list[list[list[int]]]) -> list[float]:
    """The losses of a run whose every step is made of these micro-batches."""
    data, drawing = data_of(shards, 1), Drawing()
    torch.manual_seed(0)
    trainer = trainer_of(
        devices=1, accumulate_grad_batches=len(steps[0]), max_epochs=1, limit_val_batches=0, callbacks=[drawing]
    )
    batches = Given(batch_of(data, part) for step in steps for part in step)
    trainer.fit(LitPrior(draw_by_pair(make(data.space)), SGD), train_dataloaders=batches, val_dataloaders=batches)
    return np.reshape(drawing.curve.losses, (len(steps), -1)).mean(1).tolist()
