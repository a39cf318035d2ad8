"""Conditions that are no captions, of a width of their own: imported, verified, trained on, sampled from."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data_prep.__main__ import main
from eclipse_pl.__main__ import main as command_line
from eclipse_pl.callbacks import latent_rows
from eclipse_pl.callbacks.measure import measure
from eclipse_pl.cli import main as cli
from eclipse_pl.commands.sample import read_conditions
from eclipse_pl.data.manifest import SPACE_NAME
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.embedding import ClipSpace, EmbeddingBatch, TextCondition
from eclipse_pl.loading import require_encoder
from eclipse_pl.priors.baselines import MeanImagePrior, TextAsImagePrior
from eclipse_pl.priors.best_of import BestOfPrior
from eclipse_pl.priors.diffusion import DiffusionPrior
from eclipse_pl.priors.eclipse import EclipsePrior
from eclipse_pl.priors.nearest_neighbour import NearestNeighbourPrior
from tests.helpers.runs import write_experiment
from tests.helpers.shard_sets import make_space

DIM, MEASURED = 8, 3


def write(
    folder: Path, pairs: int = 60, unit: bool = False, width: int = MEASURED
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Image embeddings that are a function of three measured numbers, which are padded to ``width``; the options."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    measured = rng.normal(size=(pairs, MEASURED)) * 3
    images = measured @ rng.normal(size=(MEASURED, DIM)) + 1
    images = images / np.linalg.norm(images, axis=1, keepdims=True) if unit else images
    conditions = np.pad(measured, ((0, 0), (0, width - MEASURED)))
    np.save(folder / "images.npy", images)
    np.save(folder / "conditions.npy", conditions)
    options = ["--image-embeds", f"{folder}/images.npy", "--conditions", f"{folder}/conditions.npy"]
    return ["import-embeddings", *options], images, conditions


@pytest.mark.parametrize(("unit", "width"), [(False, MEASURED), (True, DIM), (False, 20)])
def test_conditions_without_captions(tmp_path: Path, unit: bool, width: int) -> None:
    """A pair is called by its key; widths and norms of conditions say nothing of the space."""
    command, images, conditions = write(tmp_path, unit=unit, width=width)
    assert main([*command, "--val", "10", "--out", f"{tmp_path}/set"]) == 0
    shards = ShardSet(tmp_path / "set")
    assert shards.space.normalised is unit and shards.manifest.splits == {"train": 50, "val": 10}
    assert (shards.space.dim, shards.space.condition_dim) == (DIM, width)
    written = (tmp_path / "set" / SPACE_NAME).read_bytes()
    assert ClipSpace.from_bytes(written, SPACE_NAME).identity == shards.space.identity
    assert sha256(written).hexdigest() == shards.manifest.space_sha256
    for record in range(len(shards.entries)):
        chunk = shards.read_chunk(record)
        rows = [int(key) for key in chunk.keys]
        assert chunk.captions == chunk.keys and not chunk.lengths.any()
        np.testing.assert_array_equal(chunk.image_embed, images[rows].astype(np.float16))
        np.testing.assert_array_equal(chunk.text_embed, conditions[rows].astype(np.float16))
    assert main(["verify", f"{tmp_path}/set"]) == 0


def test_equal_conditions_are_in_one_split(tmp_path: Path) -> None:
    command, _, conditions = write(tmp_path)
    np.save(tmp_path / "conditions.npy", np.repeat(conditions[:12], 5, axis=0))
    (tmp_path / "captions.txt").write_text("".join(f"patient {row}\n" for row in range(60)))
    captions = ["--captions", f"{tmp_path}/captions.txt"]
    assert main([*command, *captions, "--val", "15", "--test", "10", "--out", f"{tmp_path}/set"]) == 0
    shards = ShardSet(tmp_path / "set")
    splits: dict[bytes, set[str]] = {}
    for record, entry in enumerate(shards.entries):
        chunk = shards.read_chunk(record)
        assert all(caption == f"patient {key}" for caption, key in zip(chunk.captions, chunk.keys, strict=True))
        for condition in chunk.text_embed:
            splits.setdefault(condition.tobytes(), set()).add(entry.split)
    assert len(splits) == 12 and all(len(found) == 1 for found in splits.values())
    assert shards.manifest.splits == {"train": 35, "val": 15, "test": 10}


def test_a_condition_that_cannot_be_used_is_skipped(tmp_path: Path) -> None:
    command, _, conditions = write(tmp_path)
    conditions[3, 0], conditions[5] = np.nan, 0
    np.save(tmp_path / "conditions.npy", conditions)
    assert main([*command, "--out", f"{tmp_path}/set"]) == 0
    assert {pair.key: pair.reason for pair in ShardSet(tmp_path / "set").manifest.shards[0].skipped} == {
        "3": "its condition is not finite in float16",
        "5": "its condition is zero, or vanishes in float16",
    }


def test_what_a_user_gets_wrong_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command, _, conditions = write(tmp_path)
    out = ["--out", f"{tmp_path}/set"]

    def told(words: list[str]) -> str:
        assert main([*words, *out]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
        return error

    assert "--text-embeds is given too" in told([*command, "--text-embeds", f"{tmp_path}/images.npy"])
    assert "--image-embeds is missing" in told([command[0], *command[3:]])
    assert "in one way" in told([*command, "--arrays", "x.npz"])
    np.save(tmp_path / "conditions.npy", conditions[:7])
    assert "60 image embeddings, 7 conditions" in told(command)


SIZES = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 16}
PRIORS: dict[str, tuple[str, dict[str, object]]] = {
    "eclipse": ("eclipse.EclipsePrior", {**SIZES, "target": "image"}),
    "diffusion": ("diffusion.DiffusionPrior", {**SIZES, "condition_dropout": 0, "guidance_scale": 1}),
    "flow": ("flow.FlowPrior", {**SIZES, "prediction": "x0", "condition_dropout": 0, "guidance_scale": 1}),
    "mlp": ("mlp.MLPPrior", {"num_layers": 1, "width": 32, "contrastive_weight": 0, "noise": "zero"}),
    "linear": ("baselines.LinearPrior", {}),
}


def experiment(folder: Path, prior: str) -> Path:
    class_path, arguments = PRIORS[prior]
    return write_experiment(
        folder,
        model__prior={"class_path": f"eclipse_pl.priors.{class_path}", "init_args": arguments},
        model__optimizer={"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-2}},
        data__init_args__folder=f"{folder}/set",
        data__init_args__batch_size=64,
        trainer__max_steps=80,
        trainer__val_check_interval=80,
        checkpoint__every_n_steps=80,
    )


@pytest.mark.long
@pytest.mark.processes
@pytest.mark.parametrize(
    ("prior", "width"),
    [("eclipse", MEASURED), ("diffusion", 20), ("flow", MEASURED), ("mlp", DIM), ("linear", 20)],
)
def test_a_prior_learns_from_conditions(
    tmp_path: Path, prior: str, width: int, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Import, fit, validate and sample: the predictions are nearer to the images than their mean, and follow the condition."""
    command, images, _ = write(tmp_path, pairs=400, width=width)
    assert main([*command, "--val", "40", "--out", f"{tmp_path}/set"]) == 0
    cli(["fit", "--config", str(experiment(tmp_path, prior))])
    run = tmp_path / "runs" / "tiny" / "version_0"
    rows = json.loads((run / "latent.json").read_text())["rows"]
    assert list(rows) == ["this prior", "mean_image", "ridge", "upper_bound"]
    assert all(metrics["all"]["text_cosine"] is None for metrics in rows.values())
    assert rows["ridge"]["all"]["mse"] < 0.01 * rows["mean_image"]["all"]["mse"]
    assert "has conditions that are no captions: the table goes without text as image" in caplog.text
    words = ["sample", "--prior", str(run), "--conditions", f"{tmp_path}/conditions.npy", "--out", f"{tmp_path}/new"]
    assert command_line(words) == 0
    predicted = load_file(tmp_path / "new" / "embeddings.safetensors")["image_embed"].numpy()
    assert json.loads((tmp_path / "new" / "samples.json").read_text())["samples"][399] == {"condition": 399, "seed": 0}
    error, spread = ((predicted - images) ** 2).mean(), images.var(0).mean()
    assert error < (0.7 if prior == "flow" else 0.2) * spread  # the loss of a flow weighs small noise most, and learns later
    assert command_line(["export", "--prior", str(run), "--out", f"{tmp_path}/exported"]) == 2
    assert command_line(["sample", "--prior", str(run), "--prompt", "a red circle", "--out", f"{tmp_path}/none"]) == 2
    exported, named = capsys.readouterr().err.splitlines()[-2:]
    assert "A pipeline of diffusers needs captions" in exported or prior == "linear"
    assert "An encoder needs captions, and images" in named


def test_the_network_has_the_width_of_the_condition(tmp_path: Path) -> None:
    """Neither padding nor weights of token states that nobody has: 20 numbers cost what 20 numbers cost."""
    space = replace(make_space(DIM, 1), condition_dim=20, empty_states=None, empty_embed=None)
    prior = EclipsePrior(space, 1, 2, 16, target="image")
    text = TextCondition.pooled(torch.randn(5, 20))
    assert prior.network.embedding_proj.weight.shape == (32, 20)
    assert prior.network.encoder_hidden_states_proj.weight.shape == (32, 1)
    losses = prior.losses(EmbeddingBatch(text, torch.randn(5, DIM), torch.arange(5)))
    losses["total"].backward()
    assert all(parameter.grad is not None for parameter in prior.parameters())
    assert prior.sample(text).shape == (5, DIM)


def test_the_bank_of_the_nearest_neighbour_has_both_widths() -> None:
    space = replace(make_space(DIM, 1), condition_dim=20, empty_states=None, empty_embed=None)
    prior, conditions, images = NearestNeighbourPrior(space, bank=5), torch.randn(5, 20), torch.randn(5, DIM).half().float()
    assert prior.sample(TextCondition.pooled(conditions)).shape == (5, DIM)
    prior.losses(EmbeddingBatch(TextCondition.pooled(conditions), images, torch.arange(5)))
    prior.end_of_epoch()
    assert torch.equal(prior.sample(TextCondition.pooled(conditions)), images)


def test_what_needs_captions_is_refused_in_one_sentence() -> None:
    space = replace(make_space(DIM, 1), condition_dim=DIM, empty_states=None, empty_embed=None)
    refused = "needs captions, and tiny .*conditions 8 wide.* has conditions that are no captions"
    for target in ("text", "symmetric"):
        with pytest.raises(ValueError, match=f"The contrastive term with target {target} {refused}. Set target to image"):
            EclipsePrior(space, 1, 2, 16, target=target)
        with pytest.raises(ValueError, match=f"The contrastive term with target {target} {refused}. Set target to image"):
            EclipsePrior(space, 1, 2, 16, target=target, contrastive_weight=None, relative_weight=0.1)
    with pytest.raises(ValueError, match=f"TextAsImagePrior {refused}"):
        TextAsImagePrior(space)
    with pytest.raises(ValueError, match=f"Reranking by the text embedding {refused}"):
        BestOfPrior(space, "eclipse_pl.priors.flow.FlowPrior", {})
    with pytest.raises(ValueError, match="condition_dropout to 0 and guidance_scale to 1"):
        DiffusionPrior(space, 1, 2, 16)
    with pytest.raises(ValueError, match=f"An encoder {refused}"):
        require_encoder(space)
    with pytest.raises(ValueError, match="they differ in condition_dim"):
        make_space(DIM, 1).require_same(space, "the prior", "the shards")


def test_wide_conditions_go_without_ridge_regression(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command, _, _ = write(tmp_path)
    assert main([*command, "--val", "10", "--out", f"{tmp_path}/set"]) == 0
    monkeypatch.setattr(latent_rows, "WIDEST_RIDGE", MEASURED - 1)
    prior = MeanImagePrior(ShardSet(tmp_path / "set").space)
    assert "ridge" not in measure(prior, f"{tmp_path}/set")


def test_conditions_that_cannot_be_sampled_from(tmp_path: Path) -> None:
    space = replace(make_space(DIM, 1), condition_dim=MEASURED)
    good = np.ones((2, MEASURED), dtype=np.float32)
    path = tmp_path / "new.npy"
    for array, problem in (
        (good[:, :2], "is 2 wide; the prior was trained on tiny"),
        (good[0], "float32 of shape"),
        (good.astype(np.int64), "int64 of shape"),
        (good * np.nan, "holds NaN"),
        (np.array([["a", None]], dtype=object), "cannot be read as an npy file"),
    ):
        np.save(path, array)
        with pytest.raises(ValueError, match=problem):
            read_conditions(str(path), space)
    with pytest.raises(ValueError, match="has captions: give --prompt"):
        read_conditions(str(path), make_space(DIM, 1))
    with pytest.raises(ValueError, match="cannot be read"):
        read_conditions(str(tmp_path / "none.npy"), space)
