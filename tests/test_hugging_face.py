from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eclipse_pl.raw.find_sources import find_sources, source_of
from eclipse_pl.raw.hugging_face import HuggingFace
from eclipse_pl.raw.image_folder import ImageFolder
from eclipse_pl.raw.table import Table
from eclipse_pl.raw.tars import Tars
from tests.helpers.raw_sets import image_bytes, read_source, sample, write_images, write_tar

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def write_metadata(path: Path) -> None:
    """img2dataset's Parquet file of a shard."""
    columns = {"url": ["https://host/0.jpg"], "caption": ["a"], "key": ["0"], "status": ["success"]}
    parquet.write_table(pa.table(columns), path)


def write_rows(path: Path, numbers: range, image: str = "image") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": image_bytes(number), "path": None} for number in numbers]
    parquet.write_table(pa.table({image: images, "text": [f"caption {number}" for number in numbers]}), path)
    return path


# ---- what a folder or a file is taken for


def test_an_output_of_img2dataset_is_no_data_set_of_hugging_face(tmp_path: Path) -> None:
    tars = tmp_path / "webdataset"
    write_tar(tars / "00000.tar", {"0": sample(0)})
    write_metadata(tars / "00000.parquet")
    (tars / "00000_stats.json").write_text(json.dumps({"successes": 1}))
    assert source_of(str(tars)) == Tars([f"{tars}/*.tar"])
    files = tmp_path / "files"
    write_images(files / "00000", range(1))
    (files / "00000" / "0.txt").write_text("a")
    write_metadata(files / "00000.parquet")
    assert source_of(str(files)) == ImageFolder(str(files))
    pairs, skipped, _ = read_source(str(files))
    assert list(pairs) == ["00000/0"] and not skipped
    packed = tmp_path / "parquet"
    packed.mkdir()
    parquet.write_table(pa.table({"caption": ["a"], "jpg": [image_bytes(0)]}), packed / "00000.parquet")
    assert source_of(str(packed)) == HuggingFace(str(packed))


def test_parquet_files_with_images_decide(tmp_path: Path) -> None:
    write_rows(tmp_path / "set" / "data" / "0.parquet", range(1), image="picture")
    assert source_of(f"{tmp_path}/set") == HuggingFace(f"{tmp_path}/set")
    write_metadata(tmp_path / "set" / "data" / "00.parquet")
    assert source_of(f"{tmp_path}/set") == HuggingFace(f"{tmp_path}/set"), "not only the first file is looked at"
    write_tar(tmp_path / "set" / "copy.tar.gz", {"0": sample(0)}, "w:gz")
    assert source_of(f"{tmp_path}/set") == HuggingFace(f"{tmp_path}/set")
    (tmp_path / "arrow").mkdir()
    (tmp_path / "arrow" / "data.arrow").touch()
    assert source_of(f"{tmp_path}/arrow") == HuggingFace(f"{tmp_path}/arrow")
    assert source_of(str(write_rows(tmp_path / "a.parquet", range(1), image="picture"))) == HuggingFace(
        f"{tmp_path}/a.parquet"
    )
    write_metadata(tmp_path / "b.parquet")
    assert source_of(f"{tmp_path}/b.parquet") == Table(f"{tmp_path}/b.parquet")


# ---- files


@pytest.fixture
def datasets() -> Any:
    found = pytest.importorskip("datasets")
    found.disable_progress_bars()
    return found


@pytest.mark.long
def test_a_named_parquet_file_is_read_alone(tmp_path: Path, datasets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a [1]"
    names = ["train-00000-of-00002", "train-00001-of-00002", "b*[2]"]
    for number, name in enumerate(names):
        write_rows(folder / f"{name}.parquet", range(2 * number, 2 * number + 2))
    for number, name in enumerate(names):
        pairs, skipped, _ = read_source(f"{folder}/{name}.parquet")
        assert {key: (pair.caption, pair.image) for key, pair in pairs.items()} == {
            f"{name}/00000/{row:06d}": (f"caption {2 * number + row}", image_bytes(2 * number + row)) for row in range(2)
        }
        assert not skipped
    found = find_sources([f"{folder}/{name}.parquet" for name in names])
    assert list(found.parts) == [*(f"{name}_00000.tar" for name in names[:2]), "b_2_00000.tar"]
    monkeypatch.chdir(folder)
    pairs, _, lines = read_source("train-00000-of-00002.parquet")
    assert len(pairs) == 2 and lines == ["found a data set of Hugging Face, in 1 part: train-00000-of-00002"]
    versions = {name: part.version() for name, part in found.parts.items()}
    write_rows(folder / f"{names[2]}.parquet", range(9))
    now = {name: part.version() for name, part in find_sources(found.given).parts.items()}
    assert [name for name in versions if now[name] != versions[name]] == ["b_2_00000.tar"] and all(versions.values())


@pytest.mark.long
def test_the_folder_one_stands_in(tmp_path: Path, datasets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path / "photos" / "train.parquet", range(2))
    monkeypatch.chdir(tmp_path / "photos")
    pairs, skipped, _ = read_source(".")
    assert len(pairs) == 2 and not skipped and list(find_sources(["."]).parts) == ["photos_train_00000.tar"]


# ---- columns


@pytest.mark.long
def test_a_row_without_a_key_is_skipped(tmp_path: Path, datasets: Any) -> None:
    keys = ["7", None, " ", "8"]
    images = [image_bytes(number) for number in range(4)]
    parquet.write_table(pa.table({"id": keys, "text": list("abcd"), "jpg": images}), tmp_path / "t.parquet")
    pairs, skipped, _ = read_source(HuggingFace(f"{tmp_path}/t.parquet", key="id"))
    assert {key: pair.caption for key, pair in pairs.items()} == {"7": "a", "8": "d"}
    assert [(pair.key, pair.reason) for pair in skipped] == [("t/00000/000001", "no key"), ("t/00000/000002", "no key")]


@pytest.mark.long
def test_parquet_files_of_img2dataset(tmp_path: Path, datasets: Any) -> None:
    columns = {
        "url": [f"https://host/{number}.jpg" for number in range(3)],
        "key": [f"{number:09d}" for number in range(3)],
        "status": ["success", "failed_to_download", "success"],
        "caption": ["a", "b", "c"],
        "jpg": pa.array([image_bytes(0), None, image_bytes(2)], pa.binary()),
    }
    parquet.write_table(pa.table(columns), tmp_path / "00000.parquet")
    (tmp_path / "00000_stats.json").write_text(json.dumps({"successes": 2}))
    for source in (tmp_path, tmp_path / "00000.parquet"):
        pairs, skipped, _ = read_source(HuggingFace(str(source), key="key"))
        assert type(source_of(str(source))) is HuggingFace
        assert {key: (pair.caption, pair.image) for key, pair in pairs.items()} == {
            "000000000": ("a", image_bytes(0)),
            "000000002": ("c", image_bytes(2)),
        }
        assert [(pair.key, pair.reason) for pair in skipped] == [("000000001", "no image")]
    structs = [{"bytes": image_bytes(0), "path": None}]
    parquet.write_table(pa.table({"url": ["x"], "text": ["a"], "picture": structs}), tmp_path / "other.parquet")
    assert [pair.image for pair in read_source(f"{tmp_path}/other.parquet")[0].values()] == [image_bytes(0)]
    two = {"url": ["x"], "text": ["a"], "jpg": [image_bytes(0)], "png": [image_bytes(1)]}
    parquet.write_table(pa.table(two), tmp_path / "two.parquet")
    with pytest.raises(ValueError, match=r"has the columns jpg, png: none of them has a usual name of images\. Name it with"):
        find_sources([f"{tmp_path}/two.parquet"])


@pytest.mark.long
def test_facts_that_are_numbers_or_classes(tmp_path: Path, datasets: Any) -> None:
    split = datasets.ClassLabel(names=["train", "val", "test"])
    kind = datasets.ClassLabel(names=["cats", "dogs"])
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "caption": kind,
            "group": datasets.Value("int64"),
            "subset": kind,
            "split": split,
        }
    )
    rows = {
        "image": [{"bytes": image_bytes(number), "path": None} for number in range(4)],
        "caption": [0, 1, 0, 1],
        "group": [0, 7, 7, None],
        "subset": [1, 0, None, -1],
        "split": [1, 2, 2, None],
    }
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    pairs, skipped, _ = read_source(str(tmp_path / "saved"))
    assert not skipped and [(pair.caption, pair.group, pair.subset, pair.split) for pair in pairs.values()] == [
        ("cats", "0", "dogs", "val"),
        ("dogs", "7", "cats", "test"),
        ("cats", "7", "", "test"),
        ("dogs", None, "", None),
    ]
