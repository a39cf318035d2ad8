from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eclipse_pl.data.shards import ShardWriter
from eclipse_pl.embed.image_statistics import image_statistics
from eclipse_pl.embedding import ClipSpace
from tests.helpers.shard_sets import make_chunk, make_space


def test_statistics_are_numpys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics of the stored training pairs, for any size of blocks. An image counts once for each of its pairs."""
    rng = np.random.default_rng(0)
    shared = np.array([0, 0, 1, 2, 1, 3, 3])
    first, second, third = (make_chunk(rng, pairs, 8, 6) for pairs in (11, 7, 5))
    second = replace(second, image_embed=second.image_embed[shared], image_rows=shared)
    with ShardWriter(tmp_path / "0000.tar") as writer:
        for chunk, split in ((first, "train"), (second, "train"), (third, "val")):
            writer.write(chunk, split)
        entry = writer.close()
    stored = np.concatenate([first.image_embed, second.image_embed]).astype(np.float16).astype(np.float64)
    for block in (3, 4096):
        monkeypatch.setattr("eclipse_pl.embed.image_statistics.STATISTICS_BLOCK", block)
        found = image_statistics(tmp_path, [entry], 8)
        np.testing.assert_allclose(found.image_mean, stored.mean(0), rtol=1e-6)
        np.testing.assert_allclose(found.image_std, stored.std(0), rtol=1e-6)
        np.testing.assert_allclose(found.image_covariance, np.cov(stored.T, bias=True), rtol=1e-5, atol=1e-7)


def test_without_a_training_split_all_pairs_count(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    chunks = [make_chunk(rng, pairs, 8, 6) for pairs in (11, 7)]
    with ShardWriter(tmp_path / "0000.tar") as writer:
        for chunk, split in zip(chunks, ("val", "test"), strict=True):
            writer.write(chunk, split)
        entry = writer.close()
    stored = np.concatenate([chunk.image_embed for chunk in chunks]).astype(np.float16).astype(np.float64)
    np.testing.assert_allclose(image_statistics(tmp_path, [entry], 8).image_mean, stored.mean(0), rtol=1e-6)
    with pytest.raises(ValueError, match=r"holds no pair, so its space has no statistics\."):
        image_statistics(tmp_path, [], 8)


def test_only_the_set_keeps_the_covariance(tmp_path: Path) -> None:
    covariance = torch.randn(8, 8)
    space = replace(make_space(8), image_covariance=covariance)
    space.save(tmp_path / "space.safetensors")
    kept = ClipSpace.load(tmp_path / "space.safetensors").image_covariance
    assert kept is not None and torch.equal(kept, covariance)
    assert ClipSpace.from_state(*space.state()).image_covariance is None, "checkpoints hold `state`"
