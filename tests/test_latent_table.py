"""The latent table of any prior on any set: one mean for all rows, names of subsets, and few training pairs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eclipse_pl.callbacks.measure import measure
from eclipse_pl.data.subset_names import require_subset_name
from eclipse_pl.priors.baselines import TextAsImagePrior
from tests.helpers.shard_sets import make_chunk, make_shard_set, make_space, write_chunks

SPLITS = {"train": 32, "val": 16}


def test_all_rows_subtract_the_mean_image_of_the_measured_set(tmp_path: Path) -> None:
    """The prior was trained on another set of the same CLIP, so it carries that set's mean."""
    folder = make_shard_set(tmp_path / "shards", splits=SPLITS)
    prior = TextAsImagePrior(replace(make_space(), image_mean=torch.full((8,), 3.0)))
    rows = measure(prior, str(folder), ridge_pairs=0)
    assert list(rows["this prior"]) == ["all", "seen", "unseen"]
    for subset, metrics in rows["text_as_image"].items():
        assert rows["this prior"][subset] == pytest.approx(metrics, abs=1e-6), subset


@pytest.mark.parametrize("name", ["all", "ridge", "mean_image", "this prior", "upper_bound", "a/b"])
def test_a_subset_whose_name_tables_use_is_refused_before_anything_is_measured(tmp_path: Path, name: str) -> None:
    rng, space = np.random.default_rng(0), make_space()
    chunk = make_chunk(rng, 16, space.dim, space.text_width)
    folder = write_chunks(tmp_path, [replace(chunk, subsets=[name, "other"] * 8)], "val")
    with pytest.raises(ValueError, match=rf"the subset '{name}' cannot have this name.*`python -m data_prep embed"):
        measure(TextAsImagePrior(space), str(folder), ridge_pairs=0)


def test_other_names_of_subsets_pass() -> None:
    for name in ("", "seen", "unseen", "unsaid", "All", "alley", "ridge 2", "R@1"):
        require_subset_name(name)
