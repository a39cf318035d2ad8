"""LoRA of a released prior: what is trained, what a run of it is taken for, and both exports in diffusers' own class."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import PriorTransformer

from eclipse_pl.__main__ import main as command
from eclipse_pl.embedding import EmbeddingBatch, TextCondition
from eclipse_pl.loading import load_prior
from eclipse_pl.priors import BestOfPrior, DiffusionPrior, EclipsePrior, LoraPrior
from eclipse_pl.priors.lora import ATTENTION
from tests.helpers.every_prior import space
from tests.helpers.released_folders import TINY, write_pipeline
from tests.helpers.runs import write_experiment
from tests.helpers.saved_runs import make_run
from tests.helpers.shard_sets import make_shard_set

SIZES = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8}
DIFFUSION = "eclipse_pl.priors.diffusion.DiffusionPrior"


def text_of(dim: int, count: int = 3) -> TextCondition:
    draw = torch.Generator().manual_seed(3)
    lengths = torch.tensor([4, 2, 5][:count])
    states = torch.randn(int(lengths.sum()), dim, generator=draw)
    return TextCondition(torch.randn(count, dim, generator=draw), states, lengths)


def moved(prior: LoraPrior) -> LoraPrior:
    """As after some training: B is zero at first."""
    draw = torch.Generator().manual_seed(4)
    for name, parameter in prior.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.3, generator=draw)
    return prior


@pytest.mark.parametrize(("layers", "adapted"), [("attention", 8), ("all", 12)])
def test_low_rank_changes_alone_are_trained_and_begin_with_nothing(layers: Any, adapted: int) -> None:
    torch.manual_seed(0)
    plain = EclipsePrior(space(), **SIZES).eval()
    prior = LoraPrior(space(), "eclipse_pl.priors.eclipse.EclipsePrior", SIZES, rank=2, alpha=8.0, layers=layers).eval()
    weights = {name.replace(".base_layer", ""): name for name in prior.prior.state_dict() if "lora_" not in name}
    prior.prior.load_state_dict({weights[name]: one for name, one in plain.state_dict().items()}, strict=False)
    trained = {name: one for name, one in prior.named_parameters() if one.requires_grad}
    assert len(trained) == 2 * adapted and all("lora_" in name for name in trained)
    text, seeds = text_of(12), [torch.Generator().manual_seed(i) for i in range(3)]

    def sampled(one: Any) -> torch.Tensor:
        for seed, generator in enumerate(seeds):
            generator.manual_seed(seed)
        return one.sample(text, seeds)

    torch.testing.assert_close(sampled(prior), sampled(plain))
    changed = sampled(moved(prior))
    assert not torch.allclose(changed, sampled(plain), atol=1e-2)
    merged = prior.merged()
    assert isinstance(merged, EclipsePrior) and merged.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(sampled(merged), changed, atol=1e-5, rtol=1e-4)


def test_the_merged_prior_of_a_run_states_what_it_was_trained_on(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", LoraPrior, space(), prior=DIFFUSION, prior_args=SIZES)
    checkpoint = run / "checkpoints" / "last.ckpt"
    trained_on = [{"folder": "shards", "sha256": "0", "pairs": 4}]
    torch.save({**torch.load(checkpoint, weights_only=True), "training_data": trained_on}, checkpoint)
    made = load_prior(str(run))
    assert isinstance(made, DiffusionPrior) and made.trained_on == trained_on


def test_what_is_refused() -> None:
    pooled = "eclipse_pl.priors.mlp.MLPPrior"
    with pytest.raises(ValueError, match="MLPPrior has no transformer that LoRA could adapt: take EclipsePrior"):
        LoraPrior(space(), pooled, {"num_layers": 1, "width": 8})
    with pytest.raises(ValueError, match="rank is 0; it must be 1 or more"):
        LoraPrior(space(), DIFFUSION, SIZES, rank=0)
    one_prediction = {"prior": "eclipse_pl.priors.eclipse.EclipsePrior", "prior_args": {**SIZES, "noise": "zero"}}
    with pytest.raises(ValueError, match="all samples of this LoraPrior are equal for one caption"):
        BestOfPrior(space(), "eclipse_pl.priors.lora.LoraPrior", one_prediction)
    prior = LoraPrior(space(), DIFFUSION, SIZES)
    batch = EmbeddingBatch(text_of(12), torch.randn(3, 12), torch.arange(3))
    with pytest.raises(ValueError, match="prior_args name no weights: set weights among them"):
        prior.train().losses(batch)
    assert prior.eval().losses(batch)["total"].isfinite()  # a run is built so, before its own weights are loaded


def test_without_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ValueError, match=r"LoRA needs peft, which is not installed: pip install eclipse_pl\[peft\]"):
        LoraPrior(space(), DIFFUSION, SIZES)


@pytest.mark.long
@pytest.mark.processes
def test_both_exports_are_one_prior_in_diffusers(tmp_path: Path) -> None:
    """From a folder as Kandinsky's, through `fit` and `export`, into diffusers' own class."""
    released = write_pipeline(tmp_path / "released", **TINY)
    make_shard_set(tmp_path / "shards", splits={"train": 64, "val": 16, "test": 16}, dim=16, width=16)
    arguments = {"prior": DIFFUSION, "prior_args": {**SIZES, "steps": 2, "weights": str(released)}, "rank": 2, "alpha": 6.0}
    part = {"class_path": "eclipse_pl.priors.lora.LoraPrior", "init_args": arguments}
    experiment = write_experiment(tmp_path, model__prior=part, trainer__max_steps=4, model__optimizer__init_args={"lr": 0.05})
    assert command(["fit", "--config", str(experiment)]) == 0
    run = tmp_path / "runs" / "tiny" / "version_0"
    released.rename(tmp_path / "moved")  # a run does not need what it began with
    made = load_prior(str(run))
    assert isinstance(made, DiffusionPrior)

    assert command(["export", "--prior", str(run), "--out", str(tmp_path / "merged")]) == 0
    assert command(["export", "--prior", str(run), "--lora", "true", "--out", str(tmp_path / "changes")]) == 0
    assert [path.name for path in (tmp_path / "changes").iterdir()] == ["pytorch_lora_weights.safetensors"]
    base, merged = (PriorTransformer.from_pretrained(tmp_path / name / "prior") for name in ("moved", "merged"))
    before = {name: one.clone() for name, one in base.state_dict().items()}
    base.load_lora_adapter(tmp_path / "changes", use_safetensors=True, prefix=None)
    base.fuse_lora()
    base.unload_lora()
    after, wanted = base.state_dict(), merged.state_dict()
    assert after.keys() == wanted.keys()
    for name, one in wanted.items():
        torch.testing.assert_close(after[name], one, atol=1e-6, rtol=1e-5, msg=name)
    changed = {name for name in before if not torch.equal(before[name], wanted[name])}
    attention = {f"transformer_blocks.{block}.attn1.{name}.weight" for block in range(2) for name in ATTENTION}
    assert changed == attention

    assert command(["export", "--prior", str(tmp_path / "merged"), "--lora", "true", "--out", str(tmp_path / "none")]) == 2
    assert command(["export", "--prior", str(run), "--lora", "true", "--base", "x/y", "--out", str(tmp_path / "none")]) == 2
