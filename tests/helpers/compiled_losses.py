"""Counts the graphs into which torch compiles the losses of every prior; a module of its own: pytest checks break graphs.

A break of a graph raises (``fullgraph``), but for priors that say that they have one. Prints one JSON object: the number of
graphs by prior.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch._dynamo.utils import counters

from eclipse_pl.priors import BestOfPrior, EclipsePrior, LoraPrior, MeanFlowPrior, Prior
from eclipse_pl.speed.inputs import draw_lengths
from eclipse_pl.training.compiled import CompiledLosses
from tests.helpers import every_prior
from tests.helpers.every_prior import OPTIONS, SIZES, batch_of, build

BATCHES, CAPTIONS = 200, 64
EVERY_BRANCH = {
    "learn_temperature": True,
    "target": "symmetric",
    "mask_duplicates": True,
    "hard_negatives": True,
    "noise": "learned",
    "standardise": "diagonal",
}


SMALL = SIZES | {"num_layers": 1}
INSIDE = {"prior": "eclipse_pl.priors.mean_flow.MeanFlowPrior", "prior_args": SMALL}
IN_PARTS: dict[type[Prior], dict[str, Any]] = {MeanFlowPrior: SMALL, LoraPrior: INSIDE | {"rank": 2}, BestOfPrior: INSIDE}
"""Priors whose losses torch compiles in two graphs, with the derivative between them."""


def graphs(kind: type[Prior], options: dict[str, Any], lengths: list[list[int]]) -> int:
    """The number of graphs for these batches in buckets, with gradients for the first one."""
    torch._dynamo.reset()
    counters.clear()
    prior = build(kind, options)
    compiled = torch.compile(prior.losses, fullgraph=CompiledLosses(prior, "default").whole, backend="eager")
    for number, each in enumerate(lengths):
        batch = batch_of(each)
        batch = replace(batch, text=batch.text.bucketed(every_prior.CONTEXT))
        torch.manual_seed(number)
        losses = compiled(batch)
        if number == 0:
            losses["total"].backward()
            torch.manual_seed(number)
            assert torch.allclose(losses["total"], prior.losses(batch)["total"])
    return counters["stats"]["unique_graphs"]


def main() -> None:
    every_prior.CONTEXT = 77
    drawn = np.sort(draw_lengths(BATCHES * CAPTIONS).numpy()).reshape(BATCHES, CAPTIONS)
    drawn = np.random.default_rng(0).permutation(drawn).tolist()
    trained = {kind: several[0] for kind, several in OPTIONS.items() if list(build(kind, several[0]).parameters())}
    small = {kind: options | {"num_layers": 1} if "num_layers" in options else options for kind, options in trained.items()}
    counts = {kind.__name__: graphs(kind, options, drawn) for kind, options in small.items()}
    counts["every branch"] = graphs(EclipsePrior, SMALL | EVERY_BRANCH, drawn[:1])
    counts |= {f"{kind.__name__} in parts": graphs(kind, options, drawn[:1]) for kind, options in IN_PARTS.items()}
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
