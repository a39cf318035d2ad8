"""The latent table of any prior on any set: one mean for all rows, names of subsets, and few training pairs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from eclipse_pl.callbacks.measure import measure
from eclipse_pl.priors.baselines import TextAsImagePrior
from tests.helpers.shard_sets import make_shard_set, make_space

SPLITS = {"train": 32, "val": 16}


def test_all_rows_subtract_the_mean_image_of_the_measured_set(tmp_path: Path) -> None:
    """The prior was trained on another set of the same CLIP, so it carries that set's mean."""
    folder = make_shard_set(tmp_path / "shards", splits=SPLITS)
    prior = TextAsImagePrior(replace(make_space(), image_mean=torch.full((8,), 3.0)))
    rows = measure(prior, str(folder), ridge_pairs=0)
    assert list(rows["this prior"]) == ["all", "seen", "unseen"]
    for subset, metrics in rows["text_as_image"].items():
        assert rows["this prior"][subset] == pytest.approx(metrics, abs=1e-6), subset
