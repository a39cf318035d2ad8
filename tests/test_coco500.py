"""500 real CLIP pairs of MSCOCO, from arrays through shards to a trained prior."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from data_prep.__main__ import main as data_prep
from eclipse_pl.cli import main
from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.data.subset_names import ALL
from eclipse_pl.embedding import EmbeddingBatch
from eclipse_pl.latent.metrics import measure
from eclipse_pl.priors.baselines import LinearPrior, MeanImagePrior, TextAsImagePrior
from tests.helpers.scripts import EXPERIMENTS, load_script

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("coco500")


@pytest.fixture(scope="session")
def pairs(real_data):
    return real_data("coco500/coco500_clip_vitb16.npz")


def shards(pairs: Path, folder: Path, seed: int) -> Path:
    arguments = f"--arrays {pairs} --out {folder} --val 100 --seed {seed} --name ViT-B-16/openai --encoder openai"
    assert data_prep(["import-embeddings", *arguments.split()]) == 0
    return folder


def split(folder: Path, name: str) -> EmbeddingBatch:
    opened = ShardSet(folder)
    records = opened.records(name)
    return opened.gather(
        np.repeat(records, opened.record_pairs[records]),
        np.concatenate([np.arange(opened.record_pairs[record]) for record in records]),
        with_captions=True,
    ).to("cpu")


@pytest.fixture(scope="module")
def ten_splits(pairs, tmp_path_factory):
    """{row: mean of ten splits of each metric}."""
    folder = tmp_path_factory.mktemp("coco500")
    rows: dict[str, list[dict[str, float]]] = {}
    for seed in range(10):
        data = EmbeddingDataModule(str(shards(pairs, folder / str(seed), seed)))
        ridge = LinearPrior(data.space)
        for batch in data.single_pass():
            ridge.accumulate(batch)
        ridge.solve()
        batch = split(folder / str(seed), "val")
        assert len(batch) == 100
        for name, prior in (("text", TextAsImagePrior(data.space)), ("mean", MeanImagePrior(data.space)), ("ridge", ridge)):
            rows.setdefault(name, []).append(measure(prior.sample(batch.text), batch, data.space.image_mean)[ALL])
    return {name: {key: np.mean([row[key] for row in splits]) for key in splits[0]} for name, splits in rows.items()}


@pytest.mark.parametrize(("row", "cosine", "recall"), [("text", 0.31, 0.71), ("mean", 0.73, 0.01), ("ridge", 0.81, 0.21)])
def test_what_is_known_of_these_pairs(ten_splits, row, cosine, recall):
    assert ten_splits[row]["cosine"] == pytest.approx(cosine, abs=0.006)
    assert ten_splits[row]["R@1"] == pytest.approx(recall, abs=0.03)


def test_intervals_take_into_account_that_splits_share_their_pairs(script):
    """Means over splits of the same 500 values: the corrected interval holds what other 500 would give, the plain one not."""
    draws = np.random.default_rng(0)
    held, plain = [], []
    for _ in range(300):
        values = draws.normal(size=500)
        means = [values[draws.permutation(500)[:100]].mean() for _ in range(10)]
        half = script.half_width(means)
        assert half == pytest.approx(2.2622 * np.std(means, ddof=1) * 0.35**0.5, rel=1e-4)
        held.append(abs(np.mean(means)) < half)
        plain.append(abs(np.mean(means)) < half * (0.1 / 0.35) ** 0.5)
    assert np.mean(plain) < 0.8 < 0.9 < np.mean(held)
    assert np.isnan(script.half_width([1.0]))


def test_rows_are_compared_with_the_first_split_by_split(script):
    def splits(*values: float) -> list[dict[str, float]]:
        return [dict.fromkeys(script.COLUMNS, value) for value in values]

    found = script.differences({"a": splits(1.0, 2.0), "b": splits(3.0, 5.0)})
    assert found == {"b, minus the first row": splits(2.0, 3.0)}
    assert "| b, minus the first row | 2.500 ± " in script.table(found)


def test_the_contrastive_term_pulls_towards_the_text(pairs, tmp_path, monkeypatch):
    """Two short fits: with the term, predictions lie nearer to the text embedding and retrieve better than without."""
    folder = shards(pairs, tmp_path / "shards", 0)
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    rows = {}
    for weight in (0.0, 1.0):
        command = f"fit --config {EXPERIMENTS / 'coco500.yaml'} --config {EXPERIMENTS / 'overlays/quiet.yaml'}"
        command += f" --data.init_args.folder={folder} --trainer.max_steps=60 --trainer.val_check_interval=60"
        main([*command.split(), f"--model.prior.init_args.contrastive_weight={weight}", f"--run.version=weight_{weight}"])
        report = json.loads((tmp_path / "runs/coco500" / f"weight_{weight}" / "latent.json").read_text())
        assert report["pairs"] == 100
        rows[weight] = report["rows"]["this prior"]["all"]
    assert rows[1.0]["text_cosine"] > rows[0.0]["text_cosine"]
    assert rows[1.0]["R@1"] > rows[0.0]["R@1"]
    assert rows[0.0]["cosine"] > rows[1.0]["cosine"]
