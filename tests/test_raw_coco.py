from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eclipse_pl.raw.coco import Coco
from eclipse_pl.raw.find_sources import find_sources
from tests.helpers.raw_sets import image_bytes, read_source, write_images


def write_coco(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": 0, "file_name": "0.png"}]
    path.write_text(json.dumps({"images": images, "annotations": [{"image_id": 0, "caption": "a"}]}))
    return path


@pytest.mark.parametrize(
    ("working", "named"),
    [
        ("", "annotations/captions_train2017.json"),
        ("annotations", "captions_train2017.json"),
        ("deep/er", "../../annotations/captions_train2017.json"),
        ("annotations", "./captions_train2017.json"),
    ],
)
def test_a_relative_path_finds_what_the_absolute_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, working: str, named: str
) -> None:
    absolute = write_coco(tmp_path / "annotations" / "captions_train2017.json")
    write_images(tmp_path / "train2017", range(1))
    (tmp_path / working).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(tmp_path / working)
    assert read_source(named)[0] == read_source(str(absolute))[0]
    assert [pair.image for pair in read_source(named)[0].values()] == [image_bytes(0)]


def test_captions_in_the_root_of_a_file_system() -> None:
    assert isinstance(Coco("/captions_train2017.json")._places({""}), list)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"filename": "1.png"}, "lacks 'sentences'"),
        ({"sentences": [{"raw": "b"}]}, "lacks 'filename'"),
        ({"filename": "1.png", "sentences": None}, r"sentences .*None"),
        ({"filename": "1.png", "sentences": ["b"]}, "sentences .*'b'"),
        ({"filename": 7, "sentences": [{"raw": "b"}]}, "filename .*7"),
        ({"filename": "1.png", "filepath": None, "sentences": [{"raw": "b"}]}, "filepath .*None"),
        ({"filename": "1.png", "sentences": [{"raw": "b"}], "split": ["val"]}, "split .*val"),
        ("1.png", "'1.png'"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_an_entry_of_karpathy_that_is_not_whole(tmp_path: Path, entry: Any, said: str, first: bool) -> None:
    write_images(tmp_path, range(2))
    whole = {"filename": "0.png", "sentences": [{"raw": "a"}]}
    path = tmp_path / "dataset_coco.json"
    path.write_text(json.dumps({"images": [entry, whole] if first else [whole, entry]}))
    with pytest.raises(ValueError, match=rf"dataset_coco.json is not Karpathy's JSON: images\[{1 - first}\] .*{said}"):
        find_sources([str(path)])


@pytest.mark.parametrize("image", [{"id": 0, "file_name": 5}, {"id": 0, "file_name": None}, {"id": [0], "file_name": "0.png"}])
def test_an_entry_of_mscoco_that_is_not_whole(tmp_path: Path, image: dict[str, Any]) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"images": [image], "annotations": []}))
    with pytest.raises(ValueError, match=r"c\.json is not MSCOCO's JSON of captions"):
        find_sources([str(path)])
