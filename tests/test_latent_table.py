"""The latent table of any prior on any set: one mean for all rows, names of subsets, and few training pairs."""

from __future__ import annotations

import inspect
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eclipse_pl.callbacks.latent import LatentEvaluation
from eclipse_pl.callbacks.latent_samples import distribution_table
from eclipse_pl.callbacks.measure import back_on, measure, place_of
from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.data.subset_names import require_subset_name
from eclipse_pl.latent.distribution import OF_CAPTIONS, OF_SETS
from eclipse_pl.priors.baselines import MeanImagePrior, TextAsImagePrior
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


@pytest.mark.parametrize("split", ["train", "validation"])
def test_no_other_split_is_measured_in_place_of_the_one_that_is_asked_for(tmp_path: Path, split: Any) -> None:
    """Without the check of types that tests have, and users have not."""
    folder = make_shard_set(tmp_path / "shards", splits=SPLITS | {"test": 8})
    with pytest.raises(ValueError, match=rf"split is '{split}'; choose one of 'val', 'test'"):
        inspect.unwrap(measure)(TextAsImagePrior(make_space()), str(folder), split, ridge_pairs=0)


@pytest.mark.parametrize(
    ("device", "place"),
    [
        ("cpu", {"accelerator": "cpu", "devices": 1}),
        ("cuda:0", {"accelerator": "gpu", "devices": [0]}),
        ("cuda:3", {"accelerator": "gpu", "devices": [3]}),
        ("mps", {"accelerator": "cpu", "devices": 1}),
    ],
)
def test_a_prior_is_measured_on_its_own_gpu(device: str, place: dict[str, Any]) -> None:
    assert place_of(torch.device(device)) == place


def test_a_prior_is_on_its_device_after_an_error_too() -> None:
    """A meta tensor stands for one on a GPU."""
    prior = MeanImagePrior(make_space()).to("meta")
    with pytest.raises(KeyError), back_on(torch.device("meta"), prior):
        prior.to_empty(device="cpu")
        raise KeyError
    assert {tensor.device.type for tensor in prior.state_dict().values()} == {"meta"}


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


@pytest.mark.parametrize(("images", "said"), [(5000, "density and coverage of 5,000 of the images"), (4999, "")])
def test_a_table_says_where_density_and_coverage_are_of_a_part(
    images: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {"this prior": {"all": dict.fromkeys((*OF_CAPTIONS, *OF_SETS), (0.5, 0.4, 0.6))}}
    distribution_table({"distribution": {"samples": 2, "redraws": 0, "neighbourhoods": images, "rows": rows}})
    printed = " ".join(capsys.readouterr().out.split())
    assert said in printed and ("of the images" in printed) == bool(said)


def test_the_table_of_samples_prints_the_bounds_of_intervals(capsys: pytest.CaptureFixture[str]) -> None:
    """That of a share is not as wide above its mean as below: no share is above 1."""
    numbers = dict.fromkeys((*OF_CAPTIONS, *OF_SETS), (27.5, 26.25, 28.0)) | {"coverage": (1.0, 0.794, 1.0)}
    rows = {"this prior": {"all": numbers}, "mean_image": {"all": numbers | {"spread": (0.0, math.nan, math.nan)}}}
    distribution_table({"distribution": {"samples": 2, "redraws": 0, "neighbourhoods": 16, "rows": rows}})
    printed = capsys.readouterr().out
    assert "2 samples a caption, [95 % interval] over images" in printed and "±" not in printed
    of_captions, of_sets = [line for line in printed.splitlines() if "this prior" in line]
    assert of_captions.count("27.500 [26.250, 28.000]") == 5
    assert of_sets.count("27.500 [26.250, 28.000]") == 3 and of_sets.rstrip().endswith("1.000 [0.794, 1.000]")
    of_captions, _ = [line for line in printed.splitlines() if "mean image" in line]
    assert of_captions.split("27.500 [26.250, 28.000]")[1].strip() == "0.000"


def test_ridge_regression_needs_two_training_pairs(tmp_path: Path) -> None:
    for pairs in (-1, 1):
        with pytest.raises(ValueError, match=rf"latent\.ridge_pairs is {pairs}; it must be 0 .* or at least 2"):
            LatentEvaluation(pairs)
    folder = make_shard_set(tmp_path / "shards", splits={"train": 1, "val": 16})
    prior = TextAsImagePrior(make_space())
    assert "ridge" not in measure(prior, str(folder))
    more = make_shard_set(tmp_path / "more", splits=SPLITS)
    assert "ridge" not in measure(prior, EmbeddingDataModule(str(more), pairs=1, workers=0))
    assert "ridge" in measure(prior, EmbeddingDataModule(str(more), pairs=2, workers=0), ridge_pairs=2)
