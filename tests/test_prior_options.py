"""`Prior.options`: priors of equal weights that sample otherwise do not state the same."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import pytest
import torch

from eclipse_pl.priors import BestOfPrior, DiffusionPrior, EclipsePrior, FlowPrior, MeanFlowPrior, Prior
from tests.helpers.every_prior import OPTIONS, SIZES, build, cases

FLOW = "eclipse_pl.priors.flow.FlowPrior"


@pytest.mark.parametrize(("kind", "options"), cases())
def test_they_are_plain_data(kind: type[Prior], options: dict[str, Any]) -> None:
    stated = build(kind, options).options
    assert json.loads(json.dumps(stated)) == stated
    assert stated == build(kind, options).options and options.items() <= stated.items()


@pytest.mark.parametrize("kind", [kind for kind, several in OPTIONS.items() if len(several) > 1])
def test_no_two_ways_to_build_a_prior_state_the_same(kind: type[Prior]) -> None:
    for one, other in combinations([build(kind, options).options for options in OPTIONS[kind]], 2):
        assert one != other


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        (DiffusionPrior, {"steps": 2}),
        (DiffusionPrior, {"guidance_scale": 0.0}),
        (DiffusionPrior, {"eta": 0.5}),
        (DiffusionPrior, {"clamp": 1.0}),
        (DiffusionPrior, {"spacing": "trailing"}),
        (DiffusionPrior, {"num_attention_heads": 4, "attention_head_dim": 4}),
        (FlowPrior, {"shift": 2.0}),
        (FlowPrior, {"sampler": "heun"}),
        (MeanFlowPrior, {"shift": 2.0}),
        (EclipsePrior, {"noise": "zero"}),
        (BestOfPrior, {"rerank": 3}),
        (BestOfPrior, {"prior_args": {**SIZES, "steps": 3}}),
    ],
)
def test_what_samples_depend_on_beside_the_weights(kind: type[Prior], changed: dict[str, Any]) -> None:
    options: dict[str, Any] = {"prior": FLOW, "prior_args": SIZES} if kind is BestOfPrior else SIZES
    one, other = build(kind, options), build(kind, options | changed)
    other.load_state_dict(one.state_dict())
    assert one.options != other.options


def test_they_are_those_that_the_prior_has_now() -> None:
    made = build(DiffusionPrior, SIZES | {"steps": 3})
    assert isinstance(made, DiffusionPrior)
    made.sample_with(steps=2, guidance_scale=0.0, eta=0.5)
    assert {"steps": 2, "guidance_scale": 0.0, "eta": 0.5}.items() <= made.options.items()
    best = build(BestOfPrior, {"prior": FLOW, "prior_args": SIZES})
    before = best.options
    assert isinstance(best, BestOfPrior) and isinstance(best.prior, FlowPrior)
    best.prior.sample_with(sampler="heun")
    assert before["sampler"] == "euler" and best.options == {**before, "sampler": "heun"}


def test_weights_that_a_prior_began_with_are_no_part_of_them() -> None:
    """They may be called otherwise, and the prior's own weights are others by now."""

    class Begun(EclipsePrior):
        def __init__(self, space: Any, weights: Any = None, prior_args: Any = None, table: Any = None) -> None:
            super().__init__(space, **SIZES)

    stated = build(Begun, {"weights": "runs/a", "prior_args": {"weights": "runs/b", "x": 1}, "table": torch.zeros(2)}).options
    assert stated == {
        "weights": None,
        "prior_args": {"weights": None, "x": 1},
        "table": "torch.Tensor",
        "noise": "gaussian",
    }
