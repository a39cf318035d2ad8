"""The settings of papers that docstrings name are the defaults: a run that states none of them is the run of the paper."""

from __future__ import annotations

from inspect import signature
from typing import Any

import pytest

from eclipse_pl.latent.distribution import NEIGHBOURS
from eclipse_pl.priors import BestOfPrior, DiffusionPrior, FlowPrior, MeanFlowPrior, Prior
from eclipse_pl.priors.direct import DirectPrior
from eclipse_pl.priors.flow_path import SIGMA_FLOOR
from eclipse_pl.priors.ovi import OviPrior


@pytest.mark.parametrize(
    ("kind", "stated"),
    [
        # Patel et al. 2024, and what the paper leaves open
        (DirectPrior, {"contrastive_weight": 0.2, "projection": "squared", "samples": 1, "target": "text"}),
        (DirectPrior, {"noise": "gaussian", "standardise": "none", "reduction": "mean", "temperature": 0.01}),
        (DirectPrior, {"negatives": "all_ranks", "mask_duplicates": False, "hard_negatives": False, "beta": 1.0}),
        # Karlo and Kandinsky 2.2; guidance and steps are those of ECLIPSE's baseline
        (DiffusionPrior, {"schedule": "cosine", "num_train_timesteps": 1000, "prediction": "x0", "standardise": "diagonal"}),
        (DiffusionPrior, {"steps": 25, "guidance_scale": 4.0, "eta": 1.0, "clamp": 10.0, "condition_dropout": 0.1}),
        # BLIP3-o, at the number of steps of the diffusion prior
        (FlowPrior, {"prediction": "velocity", "sigma": "uniform", "shift": 1.0, "sampler": "euler", "source": "noise"}),
        (FlowPrior, {"steps": 25, "guidance_scale": 3.0, "condition_dropout": 0.1, "num_train_timesteps": 1000}),
        # Geng et al. 2025, twice: MeanFlow's weight, improved MeanFlow's share of intervals
        (MeanFlowPrior, {"interval_share": 0.5, "adaptive_power": 1.0, "steps": 1, "guidance_scale": 1.0}),
        # Mistretta et al. 2025
        (OviPrior, {"steps": 1000, "learning_rate": 0.02, "weight_decay": 0.01}),
        # Ramesh et al. 2022
        (BestOfPrior, {"rerank": 2}),
    ],
)
def test_defaults_are_those_that_are_published(kind: type[Prior], stated: dict[str, Any]) -> None:
    options = signature(kind.__init__).parameters
    assert {name: options[name].default for name in stated} == stated


def test_constants_are_those_that_are_published() -> None:
    assert NEIGHBOURS == 5, "Naeem et al. 2020"
    assert SIGMA_FLOOR == 0.05, "runs whose floors differ minimise different losses"
