"""Conditions that are no captions: imported, verified, trained on, sampled from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from data_prep.__main__ import main
from eclipse_pl import load_prior
from eclipse_pl.cli import main as cli
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.embedding import TextCondition
from tests.helpers.runs import write_experiment

DIM, MEASURED = 8, 3


def write(folder: Path, pairs: int = 60, unit: bool = False) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Image embeddings that are a function of three measured numbers, which are padded to their width; the options."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    measured = rng.normal(size=(pairs, MEASURED)) * 3
    images = measured @ rng.normal(size=(MEASURED, DIM)) + 1
    images = images / np.linalg.norm(images, axis=1, keepdims=True) if unit else images
    conditions = np.pad(measured, ((0, 0), (0, DIM - MEASURED)))
    np.save(folder / "images.npy", images)
    np.save(folder / "conditions.npy", conditions)
    options = ["--image-embeds", f"{folder}/images.npy", "--conditions", f"{folder}/conditions.npy"]
    return ["import-embeddings", *options], images, conditions


@pytest.mark.parametrize("unit", [False, True])
def test_conditions_without_captions(tmp_path: Path, unit: bool) -> None:
    """A pair is called by its key; norms of conditions say nothing of the space."""
    command, images, conditions = write(tmp_path, unit=unit)
    assert main([*command, "--val", "10", "--out", f"{tmp_path}/set"]) == 0
    shards = ShardSet(tmp_path / "set")
    assert shards.space.normalised is unit and shards.manifest.splits == {"train": 50, "val": 10}
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
    np.save(tmp_path / "conditions.npy", conditions[:, :MEASURED])
    narrow = told(command)
    assert "are 3 wide and the image embeddings 8 wide" in narrow and "append 5 zeros to each: numpy.pad" in narrow
    np.save(tmp_path / "conditions.npy", np.concatenate([conditions, conditions], axis=1))
    assert "are 16 wide and the image embeddings 8 wide" in told(command)
    np.save(tmp_path / "conditions.npy", conditions[:7])
    assert "60 image embeddings, 7 text embeddings" in told(command)


@pytest.mark.long
@pytest.mark.processes
@pytest.mark.parametrize(
    ("prior", "options"),
    [
        ("eclipse.EclipsePrior", {"target": "image"}),
        ("diffusion.DiffusionPrior", {"condition_dropout": 0, "guidance_scale": 1}),
    ],
)
def test_a_prior_learns_from_conditions(tmp_path: Path, prior: str, options: dict[str, object]) -> None:
    """Import, fit and sample: the predictions are nearer to the images than their mean, and follow the condition."""
    command, images, conditions = write(tmp_path, pairs=400)
    assert main([*command, "--val", "40", "--out", f"{tmp_path}/set"]) == 0
    sizes = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 16}
    part = {"class_path": f"eclipse_pl.priors.{prior}", "init_args": {**sizes, **options}}
    experiment = write_experiment(
        tmp_path,
        model__prior=part,
        model__optimizer={"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-2}},
        data__init_args__folder=f"{tmp_path}/set",
        data__init_args__batch_size=64,
        trainer__max_steps=150,
        trainer__val_check_interval=150,
        checkpoint__every_n_steps=150,
    )
    cli(["fit", "--config", str(experiment)])
    trained = load_prior(str(tmp_path / "runs" / "tiny" / "version_0"))
    text = TextCondition.pooled(torch.from_numpy(conditions[:100]).float())
    predicted = trained.sample(text, torch.Generator().manual_seed(0)).numpy()
    error, spread = ((predicted - images[:100]) ** 2).mean(), images[:100].var(0).mean()
    assert error < 0.2 * spread
