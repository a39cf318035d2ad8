"""Every prior that `eclipse_pl.priors` exports, with its options one at a time, for tests that must leave none out."""

from __future__ import annotations

import inspect
import warnings
from importlib.util import find_spec
from typing import Any

import torch

import eclipse_pl.priors
from eclipse_pl.embedding import ClipSpace, EmbeddingBatch, TextCondition
from eclipse_pl.priors import (
    BestOfPrior,
    DiffusionPrior,
    EclipsePrior,
    FlowPrior,
    LinearPrior,
    LoraPrior,
    MeanFlowPrior,
    MeanImagePrior,
    MLPPrior,
    NearestNeighbourPrior,
    Prior,
    TextAsImagePrior,
)

DIM, CONTEXT = 12, 16
SIZES = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8}
DIRECT: list[dict[str, Any]] = [
    {},
    {"contrastive_weight": 0.0},
    {"reduction": "sum"},
    {"learn_temperature": True},
    {"negatives": "this_rank"},
    {"target": "image"},
    {"target": "symmetric"},
    {"mask_duplicates": True},
    {"hard_negatives": True},
    {"noise": "zero"},
    {"noise": "learned"},
    {"standardise": "diagonal"},
    {"standardise": "full"},
    {"projection": "energy", "samples": 2},
    {"projection": "cosine"},
]
OPTIONS: dict[type[Prior], list[dict[str, Any]]] = {
    EclipsePrior: [SIZES | options for options in DIRECT],
    MLPPrior: [{"num_layers": 2, "width": 16} | options for options in DIRECT],
    DiffusionPrior: [
        SIZES | {"steps": 3} | options
        for options in (
            {},
            {"prediction": "eps"},
            {"prediction": "v"},
            {"condition_dropout": 0.0, "guidance_scale": 1.0},
            {"condition_dropout": 0.5},
            {"standardise": "none"},
            {"standardise": "full"},
            {"eta": 0.0},
            {"clamp": None},
        )
    ],
    FlowPrior: [
        SIZES | {"steps": 3} | options
        for options in (
            {},
            {"prediction": "x0", "schedule": "cosine", "clamp": 3.0},
            {"sigma": "logit_normal", "shift": 2.0},
            {"condition_dropout": 0.0, "guidance_scale": 1.0},
            {"sampler": "heun"},
            {"sampler": "stochastic"},
            {"source": "text", "source_layers": 1, "kl_weight": 0.5},
        )
    ],
    # without the derivative: torch has no forward mode under a GPU that is not there
    MeanFlowPrior: [SIZES | {"interval_share": 0.0} | options for options in ({}, {"guidance_scale": 2.0, "steps": 2})],
    BestOfPrior: [
        {"prior": "eclipse_pl.priors.eclipse.EclipsePrior", "prior_args": SIZES},
        {"prior": "eclipse_pl.priors.flow.FlowPrior", "prior_args": SIZES | {"steps": 2}, "rerank": 3},
    ],
    LoraPrior: [
        {"prior": "eclipse_pl.priors.eclipse.EclipsePrior", "prior_args": SIZES, "rank": 2, "alpha": 1.0, "layers": "all"},
        {"prior": "eclipse_pl.priors.diffusion.DiffusionPrior", "prior_args": SIZES | {"steps": 3}, "rank": 2, "alpha": 1.0},
    ],
    NearestNeighbourPrior: [{"bank": 4}, {}],
    LinearPrior: [{}],
    MeanImagePrior: [{}],
    TextAsImagePrior: [{}],
}
"""What each prior is built with. A prior that is exported and is not here fails in `cases`."""


def cases(trained: bool = False) -> list[Any]:
    """Parameters of a test: a class and its options. ``trained`` leaves out those that need no gradient."""
    import pytest

    exported = [kind for kind in vars(eclipse_pl.priors).values() if inspect.isclass(kind) and issubclass(kind, Prior)]
    missing = [kind.__name__ for kind in exported if not inspect.isabstract(kind) and kind not in OPTIONS]
    assert not missing, f"tests/helpers/every_prior.py has no options for {', '.join(missing)}"
    lacks_peft = find_spec("peft") is None  # as a machine with a GPU may
    without = {LoraPrior: [pytest.mark.skip("peft is not installed")]} if lacks_peft else {}
    return [
        pytest.param(
            kind,
            options,
            marks=without.get(kind, []),
            id="-".join([kind.__name__, *(f"{k}={v}" for k, v in options.items() if k not in SIZES)]),
        )
        for kind, several in OPTIONS.items()
        for options in several
        if not trained or kind in without or list(build(kind, options).parameters())
    ]


def space() -> ClipSpace:
    draw = torch.Generator().manual_seed(9)
    mean, std = torch.randn(DIM, generator=draw), torch.rand(DIM, generator=draw) + 0.5
    empty_states, empty_embed = torch.randn(2, DIM, generator=draw), torch.randn(DIM, generator=draw)
    root = torch.randn(DIM, DIM, generator=draw)
    covariance = root @ root.T + torch.eye(DIM)
    return ClipSpace("tiny", DIM, DIM, CONTEXT, "tiny", False, mean, std, empty_states, empty_embed, None, covariance)


def build(kind: type[Prior], options: dict[str, Any]) -> Prior:
    """In training mode, and random everywhere: fresh position embeddings are zero, and would hide a wrong place."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        prior = kind(space(), **options)
    if isinstance(prior, LoraPrior):
        prior.trained = True
    for parameter in prior.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return prior.train()


def batch_of(lengths: list[int], seed: int = 3) -> EmbeddingBatch:
    """Pairs as a loader gives them; the images of two neighbours are one, and the first caption has no negative one."""
    draw = torch.Generator().manual_seed(seed)
    pairs = len(lengths)
    text = TextCondition(
        torch.randn(pairs, DIM, generator=draw),
        torch.randn(sum(lengths), DIM, generator=draw),
        torch.tensor(lengths),
        (min(lengths), max(lengths)),
    )
    images = torch.randn(pairs, DIM, generator=draw)
    negative = torch.randn(pairs, DIM, generator=draw)
    negative[0] = torch.nan
    numbers = torch.arange(pairs)
    return EmbeddingBatch(text, images, numbers, group=numbers // 2, negative_text_embed=negative)
