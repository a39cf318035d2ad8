"""Raw pairs: img2dataset's layout, readable by webdataset, the same bytes every time."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from PIL import Image

from eclipse_pl.world.captions import fits, parse
from eclipse_pl.world.drawing import pixels
from eclipse_pl.world.pairs import write_pairs
from eclipse_pl.world.scenes import Scene, SceneObject, draw_scene
from eclipse_pl.world.splits import SPLITS, names_held_out_pair
from tests.helpers.agreement import agrees


# webdataset closes its files only when they are collected
@pytest.mark.filterwarnings("ignore:Exception ignored.*FileIO:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_webdataset_reads_them_and_every_fact_fits(tmp_path: Path) -> None:
    paths = write_pairs(tmp_path, train=50, val=24, test=12, shard_pairs=20, progress=False)
    assert [path.name for path in paths] == [f"{i:04d}.tar" for i in range(6)]
    assert not list(tmp_path.glob("*.part"))
    samples = list(webdataset.WebDataset([str(path) for path in paths], shardshuffle=False))
    facts = [json.loads(sample["json"]) for sample in samples]
    assert [sample["__key__"] for sample in samples] == [fact["key"] for fact in facts] == [f"{i:09d}" for i in range(86)]
    assert [fact["split"] for fact in facts] == ["train"] * 50 + ["val"] * 24 + ["test"] * 12
    assert {fact["subset"] for fact in facts[:50]} == {"seen"}
    assert sum(fact["subset"] == "unseen" for fact in facts[50:74]) == 12
    for sample, fact in zip(samples, facts, strict=True):
        scene = Scene(fact["scene"]["category"], tuple(SceneObject(**thing) for thing in fact["scene"]["objects"]))
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(sample["png"]))), pixels(scene))
        assert sample["txt"].decode() == fact["caption"] and agrees(parse(fact["caption"]), scene)
        assert ("negative.png" in sample) == (fact["negative_caption"] is not None)
        assert fact["split"] != "train" or fact["negative_caption"] is None


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    sizes = {"train": 12, "val": 12, "test": 0, "shard_pairs": 12, "progress": False}
    once, again, other = (write_pairs(tmp_path / name, seed=seed, **sizes) for name, seed in (("a", 1), ("b", 1), ("c", 2)))  # type: ignore[arg-type]
    assert [path.read_bytes() for path in once] == [path.read_bytes() for path in again]
    assert once[0].read_bytes() != other[0].read_bytes()


def test_tars_of_another_run_are_not_mixed_in(tmp_path: Path) -> None:
    write_pairs(tmp_path, train=30, val=0, test=0, shard_pairs=10, progress=False)
    with pytest.raises(ValueError, match=r"has 0001\.tar, which is not of this run"):
        write_pairs(tmp_path, train=10, val=0, test=0, shard_pairs=10, progress=False)


@pytest.mark.parametrize("changed", [{"detail": 0.5}, {"train": 9}])
def test_tars_of_other_pairs_are_not_replaced(tmp_path: Path, changed: dict[str, float]) -> None:
    sizes = {"train": 10, "val": 0, "test": 0, "progress": False}
    (path,) = write_pairs(tmp_path, **sizes)  # type: ignore[arg-type]
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"0000\.tar is there, and holds other pairs .* Choose an empty folder, or remove"):
        write_pairs(tmp_path, **sizes | changed)  # type: ignore[arg-type]
    assert [one.read_bytes() for one in tmp_path.iterdir()] == [before]
    write_pairs(tmp_path, **sizes)  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file/raw cannot be made \(Not a directory\)\. Choose a folder that can be written"):
        write_pairs(tmp_path / "file" / "raw", train=2, val=0, test=0, progress=False)


# webdataset closes its files only when they are collected
@pytest.mark.filterwarnings("ignore:Exception ignored.*FileIO:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_several_vague_captions_of_a_scene(tmp_path: Path) -> None:
    sizes = {"train": 12, "val": 24, "test": 0, "shard_pairs": 12, "progress": False}
    full, vague = (write_pairs(tmp_path / name, **sizes, **more) for name, more in SEVERAL.items())  # type: ignore[arg-type]
    of_full, of_vague = (
        list(webdataset.WebDataset([str(path) for path in paths], shardshuffle=False)) for paths in (full, vague)
    )
    first_of = {sample["__key__"]: sample for sample in of_full}
    captions: dict[str, list[str]] = {key: [] for key in first_of}
    for sample in of_vague:
        key, fact = sample["__key__"].split("-")[0], json.loads(sample["json"])
        whole = first_of[key]
        assert sample["png"] == whole["png"] and fact["scene"] == json.loads(whole["json"])["scene"] and "txt" not in sample
        negative = sample.get("negative.png")
        assert negative in (None, whole.get("negative.png"))
        for caption in fact["caption"]:
            said = parse(caption, vague=True)
            assert fits(said, [SceneObject(**thing) for thing in fact["scene"]["objects"]])
            assert (fact["subset"] == "unseen") == names_held_out_pair(caption)
        assert (fact["negative_caption"] is None) == (negative is None)
        assert negative is None or len(fact["negative_caption"]) == len(fact["caption"])
        captions[key] += fact["caption"]
    assert {len(found) for found in captions.values()} == {5}
    assert sum(len(set(found)) > 2 for found in captions.values()) > 30, "the captions of a scene differ"
    assert any("-" in sample["__key__"] for sample in of_vague), "some captions of a scene have a hard negative, and some none"


SEVERAL: dict[str, dict[str, float]] = {"full": {}, "vague": {"detail": 0.5, "captions": 5}}


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"detail": 1.5}, r"detail is 1\.5; it must be between 0 \(captions name one shape\) and 1"),
        ({"detail": float("nan")}, "detail is nan; it must be between 0"),
        ({"captions": 0}, "captions is 0; a scene has at least one caption"),
        ({"seed": -1}, "seed is -1; it must be 0 or more"),
    ],
)
def test_details_that_make_no_sense(tmp_path: Path, wrong: dict[str, float], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        write_pairs(tmp_path, 5, 0, 0, **wrong)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [{"train": -1}, {"train": 0}, {"shard_pairs": 0}])
def test_sizes_that_make_no_sense(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        write_pairs(tmp_path, **{"train": 5, "val": 0, "test": 0, **wrong})  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_held_out_scenes_that_a_palette_does_not_have_cost_no_training_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def few(category: str, seed: tuple[int, ...], *options: Any) -> Scene:
        if seed[1] == SPLITS.index("test") and seed[2] == 3:
            raise ValueError("too few")
        return draw_scene(category, seed, *options)

    monkeypatch.setattr("eclipse_pl.world.splits.draw_scene", few)
    said = (
        r"too few different scenes for 5 pairs of test: it drew 3, .* Ask for at most 3 \(.*--test.*test_pairs\), or for more"
    )
    with pytest.raises(ValueError, match=said):
        write_pairs(tmp_path / "raw", train=4, val=2, test=5, progress=False)
    assert not list(tmp_path.rglob("*.tar"))
