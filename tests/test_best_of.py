"""BestOfPrior: the sample that is nearest to the caption, and the other prior in everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from eclipse_pl.lit_prior import weights_of
from eclipse_pl.loading import load_prior
from eclipse_pl.priors import BestOfPrior, FlowPrior, LoraPrior, Prior
from tests.helpers.saved_runs import make_run, randomise
from tests.test_diffusion import DIM, LENGTHS, batch_of, space
from tests.test_network import captions

FLOW = "eclipse_pl.priors.flow.FlowPrior"
SMALL: dict[str, Any] = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8, "steps": 2}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def prior(rerank: int) -> BestOfPrior:
    made = BestOfPrior(space(), FLOW, SMALL, rerank)
    randomise(made)
    return made.eval()


def test_it_takes_the_sample_with_the_largest_cosine() -> None:
    made, text = prior(4), captions(LENGTHS, DIM)
    generators = [torch.Generator().manual_seed(seed) for seed in range(5)]
    samples = torch.stack([made.prior.sample(text, generators) for _ in range(4)])
    cosines = F.cosine_similarity(samples, text.text_embed[None], dim=2)
    best = made.sample(text, [torch.Generator().manual_seed(seed) for seed in range(5)])
    for row in range(5):
        assert torch.equal(best[row], samples[int(cosines[:, row].argmax()), row])
    assert len(set(cosines.argmax(0).tolist())) > 1
    assert made.forward_passes == 4 * 2 * 2


def test_it_is_trained_as_the_other_prior() -> None:
    made, batch = prior(2).train(), batch_of(captions(LENGTHS, DIM))
    torch.manual_seed(3)
    losses = made.losses(batch)
    torch.manual_seed(3)
    assert losses == made.prior.losses(batch) and losses["total"].requires_grad


@pytest.mark.parametrize("kind", [BestOfPrior, LoraPrior])
def test_the_weights_of_its_loss_are_logged(kind: type[Prior]) -> None:
    sizes = {name: value for name, value in SMALL.items() if name != "steps"}
    arguments = {"contrastive_weight": None, "relative_weight": 0.5, "reduction": "sum"}
    made = kind(space(), prior="eclipse_pl.priors.eclipse.EclipsePrior", prior_args=sizes | arguments)
    assert weights_of(made) == pytest.approx(weights_of(made.prior)) and weights_of(made)["relative_weight"] == 0.5
    assert weights_of(kind(space(), prior=FLOW, prior_args=SMALL)) == {}


def test_a_run_is_built_again_and_needs_no_weights_of_the_other(tmp_path: Path) -> None:
    flow = make_run(tmp_path / "flow", FlowPrior, space(), **SMALL)
    arguments = {"prior": FLOW, "prior_args": {**SMALL, "weights": str(flow)}, "rerank": 3}
    started = BestOfPrior(space(), **arguments)
    assert torch.equal(started.prior.network.proj_in.weight, load_prior(str(flow)).network.proj_in.weight)
    run = make_run(tmp_path / "run", BestOfPrior, space(), **arguments)
    (flow / "checkpoints" / "last.ckpt").unlink()
    text = captions(LENGTHS, DIM)
    loaded = load_prior(str(run))
    assert isinstance(loaded, BestOfPrior) and loaded.rerank == 3
    assert loaded.sample(text, torch.Generator().manual_seed(0)).isfinite().all()


def test_weights_at_any_depth_are_needed_no_more(tmp_path: Path) -> None:
    flow = make_run(tmp_path / "flow", FlowPrior, space(), **SMALL)
    inner = {"prior": FLOW, "prior_args": {**SMALL, "weights": str(flow)}}
    outer = {"prior": "eclipse_pl.priors.best_of.BestOfPrior", "prior_args": inner}
    run = make_run(tmp_path / "run", BestOfPrior, space(), **outer)
    (flow / "checkpoints" / "last.ckpt").unlink()
    assert isinstance(load_prior(str(run)), BestOfPrior)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((FLOW, SMALL, 1), "rerank is 1; it must be 2 or more"),
        (("eclipse_pl.priors.baselines.MeanImagePrior", {}, 2), "all samples of this MeanImagePrior are equal"),
        (("eclipse_pl.priors.eclipse.EclipsePrior", {"num_layers": 1, "noise": "zero"}, 2), "samples of this EclipsePrior"),
        (("torch.nn.Linear", {}, 2), "torch.nn.Linear"),
        ((FLOW, {"depth": 2}, 2), "depth"),
    ],
)
def test_mistakes(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BestOfPrior(space(), *arguments)


@pytest.mark.parametrize("kind", [BestOfPrior, LoraPrior])
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"guidance_scal": 1.0}, r"'guidance_scal'\): an option is misspelt .* Near it: guidance_scale\.$"),
        ({"steps": "two"}, r"does not fit .*FlowPrior: steps is 'two', and must be int\.$"),
        ({"steps": 2.5}, r"steps is 2\.5, and must be int\.$"),
        ({"clamp": [1]}, r"clamp is \[1\], and must be float \| None\.$"),
    ],
)
def test_wrong_options_of_the_other_prior_are_named(kind: type[Prior], wrong: dict[str, Any], said: str) -> None:
    """They pass no parser of the command line."""
    with pytest.raises(ValueError, match=said):
        kind(space(), prior=FLOW, prior_args=SMALL | wrong)
