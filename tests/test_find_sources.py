from __future__ import annotations

import io
import json
import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from data_prep.__main__ import main
from eclipse_pl.data import remote_folder
from eclipse_pl.data.manifest import Manifest
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.raw import listed
from eclipse_pl.raw.coco import Coco
from eclipse_pl.raw.find_sources import find_sources, source_of
from eclipse_pl.raw.hugging_face import HuggingFace
from eclipse_pl.raw.image import AS_SHOWN
from eclipse_pl.raw.image_folder import ImageFolder
from eclipse_pl.raw.real_pairs import RealPairs, read_images
from eclipse_pl.raw.source import Source
from eclipse_pl.raw.table import Table
from eclipse_pl.raw.tars import Tars
from tests.helpers.raw_sets import contents, embed, image_bytes, read_all, sample, write_images, write_tar
from tests.helpers.raw_sets import read_source as read
from tests.helpers.real_data import RealData
from tests.helpers.s3_server import s3_bucket

# ---- what a path is taken for


def test_what_lies_at_a_path_decides(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    parquet.write_table(pa.table({"image": ["0.png"], "caption": ["a"]}), tmp_path / "paths.parquet")
    (tmp_path / "held").mkdir()
    parquet.write_table(pa.table({"image": [{"bytes": b"x", "path": None}], "text": ["a"]}), tmp_path / "held" / "0.parquet")
    for name in (
        "a.csv",
        "a.tsv",
        "a.jsonl",
        "a.ndjson",
        "a.json",
        "a.zip",
        "images/0.png",
        "set/metadata.jsonl",
        "tars/0.tar",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    kinds = {
        name: type(source_of(f"{tmp_path}/{name}")) for name in ("a.csv", "a.tsv", "a.jsonl", "a.ndjson", "paths.parquet")
    }
    assert set(kinds.values()) == {Table} == {type(source_of(f"{tmp_path}/set"))}
    assert isinstance(source_of(f"{tmp_path}/a.json"), Coco) and isinstance(source_of(f"{tmp_path}/images"), ImageFolder)
    assert source_of(f"{tmp_path}/held") == HuggingFace(f"{tmp_path}/held")
    assert source_of(f"{tmp_path}/held/0.parquet") == HuggingFace(f"{tmp_path}/held/0.parquet")
    inside = tmp_path / "old.tar.d" / "pairs.csv"  # a folder whose name looks like a tar
    inside.parent.mkdir()
    inside.write_text("image,caption\n0.png,a\n")
    write_images(inside.parent, range(1))
    assert find_sources([str(inside)]).lines == ["found a table: 1 images, 1 captions"]
    assert source_of("hf://datasets/owner/name") == HuggingFace("owner/name")
    assert source_of(f"{tmp_path}/tars") == Tars([f"{tmp_path}/tars/*.tar"])
    with pytest.raises(ValueError, match=r"a.zip is of no known kind. Sources are webdataset tars, tables \(.csv"):
        source_of(f"{tmp_path}/a.zip")
    with pytest.raises(ValueError, match=r"There is no source nowhere.*hf://datasets/OWNER/NAME"):
        source_of("nowhere")


def test_a_parquet_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "t.parquet").write_bytes(b"PAR1" + bytes(60))
    with pytest.raises(ValueError, match=r"t\.parquet cannot be read as Parquet \(.*\)\. Write it or copy it again"):
        source_of(f"{tmp_path}/t.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"t\.parquet is Parquet, which pyarrow reads: pip install"):
        source_of(f"{tmp_path}/t.parquet")


def test_a_folder_of_packed_tars_and_others(tmp_path: Path) -> None:
    for number, (name, mode) in enumerate((("a.tar", "w"), ("b.tar.gz", "w:gz"), ("c.TGZ", "w:gz"), ("d.tar.xz", "w:xz"))):
        write_tar(tmp_path / name, {f"{number}": sample(number)}, mode)
    for name in ("a.tar.idx", "a_stats.json", "._a.tar"):
        (tmp_path / name).touch()
    pairs, skipped, lines = read(str(tmp_path))
    assert sorted(pairs) == ["0", "1", "2", "3"] and not skipped and lines == ["found 4 tars"]
    (tmp_path / "a.tar").unlink()
    assert sorted(read(str(tmp_path))[0]) == ["1", "2", "3"], "none of them is plain"
    write_images(tmp_path / "inside", range(1))
    assert isinstance(source_of(str(tmp_path)), ImageFolder), "an archive beside images may hold a copy of them"


def test_a_manifest_names_its_sources_so_that_they_are_found_again(tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    folder = write_images(tmp_path / "images", range(4))
    for number in range(4):
        (folder / f"{number}.txt").write_text(f"image {number}")
    given: list[str | Source] = [
        ImageFolder(str(folder), shard_images=3),
        str(write_tar(tmp_path / "a.tar", {"9": sample(9)})),
    ]
    embed(given, clip_encoder, tmp_path / "set", val=0.0, test=0.0)
    saved = Manifest.load(tmp_path / "set").sources
    assert saved[0] == {"class": "ImageFolder", "folder": str(folder), "shard_images": 3} and saved[1] == given[1]
    found = find_sources(saved)
    assert list(found.parts) == ["a.tar", "images_00000.tar", "images_00001.tar"] and found.given == saved
    with pytest.raises(ValueError, match=r"names the source {'class': 'Oracle'}, which this eclipse_pl does not know"):
        find_sources([{"class": "Oracle"}])


def test_two_sources_of_one_name(tmp_path: Path) -> None:
    for number in range(2):
        folder = write_images(tmp_path / str(number) / "images", range(1))
        (folder / "0.txt").write_text("a")
    with pytest.raises(ValueError, match=r"would both become the shard images_00000.tar. Rename one of them"):
        find_sources([f"{tmp_path}/0/images", f"{tmp_path}/1/images"])


NOT_UTF_8 = "caf\udce9"
"""A name in Latin-1, as Python reads it."""


def test_a_source_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    folder = write_images(tmp_path / NOT_UTF_8, range(1))
    (folder / "0.txt").write_text("a")
    (folder / "t.csv").write_text("image,caption\n0.png,a\n")
    table = Table(f"{folder}/t.csv")
    for source in (str(folder), f"{folder}/t.csv", table, Tars([f"{folder}/*.tar"]), {"class": "Table", "path": table.path}):
        with pytest.raises(ValueError, match=r"^The name of the source '.*caf\\udce9.*' is not UTF-8\. Rename it\.$"):
            find_sources([source])
    (tmp_path / "caf").mkdir()
    (write_images(tmp_path / "caf" / NOT_UTF_8, range(1)) / "0.txt").write_text("a")
    assert [pair.reason for pair in read(f"{tmp_path}/caf")[1]] == [
        "odd characters (its name holds half of a character, or is no UTF-8: 'caf\\udce9/0')"
    ], "below a source they cost their own pairs alone"


@pytest.mark.parametrize("option", ["out", "source", "encoder.model"])
def test_a_command_whose_words_are_not_utf_8(tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    (write_images(tmp_path / "raw", range(1)) / "0.txt").write_text("a")
    words = {"source": f"{tmp_path}/raw", "out": f"{tmp_path}/set", "encoder.model": "no-such-model"}
    words[option] = f"{tmp_path}/{NOT_UTF_8}"
    assert main(["embed", *(word for name, value in words.items() for word in (f"--{name}", value))]) == 2
    assert f"The name '{tmp_path}/caf\\udce9' is not UTF-8. Rename it." in capsys.readouterr().err
    assert not (tmp_path / "set").exists() and not (tmp_path / NOT_UTF_8).exists()


# ---- folders


def test_a_folder_of_images_at_any_depth(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "my images.v2", range(3))
    deep = write_images(folder / "deep" / "er", range(3, 5), "JPG")
    for path in (*folder.glob("*.png"), *deep.glob("*.JPG")):
        path.with_suffix(".txt").write_text(f"caption of {path.stem}")
    (folder / "1.txt").unlink()
    (folder / "1.json").write_text(json.dumps({"captions": ["one", "two"], "split": "test", "group": "g"}))
    (folder / "2.txt").unlink()
    (folder / "lost.txt").write_text("no image")
    (folder / "notes.md").write_text("more")
    (folder / ".DS_Store").write_bytes(b"")
    pairs, skipped, lines = read(str(folder))
    assert {key: pair.caption for key, pair in pairs.items()} == {
        "0": "caption of 0",
        "1": "one",
        "1#1": "two",
        "deep/er/3": "caption of 3",
        "deep/er/4": "caption of 4",
    }
    assert pairs["1"].split == "test" and pairs["1"].group == "g" and pairs["1"].image == image_bytes(1)
    assert {pair.key: pair.reason for pair in skipped} == {
        "2": "no caption (there are: png)",
        "lost": "no image (there are: txt)",
        "notes": "no image (there are: md)",
    }
    assert lines == ["found an image folder: 5 images"]
    (part,) = find_sources([str(folder)]).parts.values()
    reading = part.read()
    assert len(list(reading)) == part.size == 7 and reading.others == 1


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.md").touch()
    with pytest.raises(ValueError, match=r"holds no image with a caption: 1 files of other kinds"):
        find_sources([str(tmp_path)])


def test_every_file_of_a_folder_is_used_or_named(tmp_path: Path) -> None:
    """The layout ``files`` of img2dataset, with images and notes of other formats in between."""
    folder = write_images(tmp_path / "00000", range(2))
    for number in range(2):
        (folder / f"{number}.txt").write_text(f"caption {number}")
    for name in ("0.depth.npy", "0.cls", "2.HEIC", "2.txt", "3.jxl", "4.v2.png", "4.v2.caption", "5.caption", "LICENSE"):
        (folder / name).touch()
    (tmp_path / "00000_stats.json").write_text('{"successes": 2}')
    (tmp_path / ".DS_Store").touch()
    pairs, skipped, _ = read(str(tmp_path))
    assert sorted(pairs) == ["00000/0", "00000/1"]
    assert {pair.key: pair.reason for pair in skipped} == {
        "00000/2": "no image (there are: heic, txt; .heic is not read)",
        "00000/3": "no image (there are: jxl; .jxl is not read)",
        "00000/4.v2": "no caption (there are: caption, png)",
        "00000/5": "no image (there are: caption)",
        "00000/LICENSE": "no image",
    }
    (part,) = find_sources([str(tmp_path)]).parts.values()
    version = part.version()
    assert len(list(reading := part.read())) == 7 and reading.others == 2
    (folder / "5.caption").rename(folder / "5.words")
    (part,) = find_sources([str(tmp_path)]).parts.values()
    assert part.version() != version, "its reasons are others"


def test_names_that_differ_in_case_alone(tmp_path: Path) -> None:
    for number, name in enumerate(("1.JPG", "1.Jpg", "1.jpg", "2.jpg")):
        (tmp_path / name).write_bytes(image_bytes(number))
    for name in ("1.TXT", "1.txt", "2.txt"):
        (tmp_path / name).write_text(f"caption of {name}")
    pairs, skipped, lines = read(str(tmp_path))
    assert {key: (pair.caption, pair.image) for key, pair in pairs.items()} == {
        "1": ("caption of 1.TXT", image_bytes(0)),
        "2": ("caption of 2.txt", image_bytes(3)),
    }
    reason = "another file has its name but for upper and lower case, and that one is used"
    assert [(pair.key, pair.reason) for pair in skipped] == [
        ("1", f"{reason} ({name})") for name in ("1.Jpg", "1.jpg", "1.txt")
    ]
    assert lines == ["found an image folder: 2 images"]


def test_a_folder_inside_that_cannot_be_listed(tmp_path: Path) -> None:
    (write_images(tmp_path, range(1)) / "0.txt").write_text("a")
    place = os.open(tmp_path, os.O_RDONLY)  # folders of so long a path can be made, and not listed by it
    for _ in range(20):
        os.mkdir("x" * 250, dir_fd=place)
        inside = os.open("x" * 250, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inside
    os.close(place)
    with pytest.raises(ValueError, match=r"^The folder .*/x+ cannot be listed \(File name too long\)\. Check that"):
        ImageFolder(str(tmp_path)).listing()
    with pytest.raises(ValueError, match=r"nowhere cannot be listed \(No such file or directory\)"):
        ImageFolder(f"{tmp_path}/nowhere").listing()


# ---- tables


def rows_of(folder: Path, **columns: list[Any]) -> dict[str, Path]:
    """The same table in five formats."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    paths = {kind: folder / f"table.{kind}" for kind in ("csv", "tsv", "jsonl", "parquet")}
    for kind, mark in (("csv", ","), ("tsv", "\t")):
        lines = [mark.join(columns), *(mark.join(str(cell) for cell in row.values()) for row in rows)]
        paths[kind].write_text("\n".join(lines) + "\n")
    paths["jsonl"].write_text("".join(json.dumps(row) + "\n" for row in rows))
    parquet.write_table(pa.table(columns), paths["parquet"])
    return paths


def test_a_table_in_any_format(tmp_path: Path) -> None:
    write_images(tmp_path / "a", range(3))
    names = ["a/0.png", "a/1.png", "a/0.png", "a/2.png"]
    tables = rows_of(
        tmp_path,
        image_path=names,
        caption=["zero", "one", "zero again", "two"],
        split=["test", "train", "test", "val"],
        group=["g", "h", "g", "i"],
    )
    expected = {"a/0.png": "zero", "a/0.png#1": "zero again", "a/1.png": "one", "a/2.png": "two"}
    for path in tables.values():
        pairs, skipped, lines = read(str(path))
        assert {key: pair.caption for key, pair in pairs.items()} == expected and not skipped
        assert pairs["a/0.png#1"].split == "test" and pairs["a/2.png"].group == "i"
        assert pairs["a/0.png"].image_number == pairs["a/0.png#1"].image_number
        assert lines == ["found a table: 3 images, 4 captions"]


def test_lists_of_captions_and_values_that_are_none(tmp_path: Path) -> None:
    write_images(tmp_path, range(6))
    captions = [["one", "two"], "three", None, 4, ["five", None], {"en": "six"}]
    rows: list[dict[str, Any]] = [{"file_name": f"{number}.png", "text": caption} for number, caption in enumerate(captions)]
    rows += [{"file_name": None, "text": "seven"}, {"file_name": 8, "text": "eight"}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs, skipped, _ = read(str(tmp_path / "t.jsonl"))
    assert {key: pair.caption for key, pair in pairs.items()} == {"0.png": "one", "0.png#1": "two", "1.png": "three"}
    assert {pair.key: pair.reason for pair in skipped} == {
        "2.png": "no caption",
        "3.png": "its caption is no text (its 'caption' is a list with a number)",
        "4.png": "its caption is no text (its 'caption' is a list with null)",
        "5.png": "its caption is no text (its 'caption' is a list with an object)",
        "line 7": "no image",
        "line 8": "no image",
    }


def test_columns_are_named_or_guessed(tmp_path: Path) -> None:
    write_images(tmp_path / "images", range(1))
    path = tmp_path / "t.csv"
    path.write_text("id,photo,alt,long\n7,0.png,short words,many words\n")
    with pytest.raises(ValueError, match=r"columns id, photo, alt, long; one of image, image_path"):
        find_sources([str(path)])
    path.write_text("id,photo,caption,text\n7,0.png,short words,many words\n")
    with pytest.raises(ValueError, match=r"none of them has a usual name of images. Name it with --source.image COLUMN"):
        find_sources([str(path)])
    with pytest.raises(ValueError, match=r"several may hold the captions \(caption, text\)"):
        find_sources([Table(str(path), image="photo")])
    with pytest.raises(ValueError, match=r"has no column 'foto' \(--source.image\); it has id, photo, caption, text"):
        find_sources([Table(str(path), image="foto")])
    pairs, _, _ = read(Table(str(path), image="photo", caption="text", key="id", folder=str(tmp_path / "images")))
    assert {key: pair.caption for key, pair in pairs.items()} == {"7": "many words"}


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_a_table_without_rows_or_with_unusual_columns(tmp_path: Path, suffix: str) -> None:
    path = rows_of(tmp_path, image=[], caption=[])[suffix]
    with pytest.raises(ValueError, match=rf"table\.{suffix} has no rows\. A table has a row for each pair"):
        find_sources([str(path)])
    path = rows_of(tmp_path, photo=["0.png"], alt=["a"])[suffix]
    with pytest.raises(ValueError, match=r"has the columns photo, alt"):
        find_sources([str(path)])


def test_coco_without_images(tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(ValueError, match=r"none\.json names no images"):
        find_sources([f"{tmp_path}/none.json"])


def test_captions_of_one_image_with_keys_of_their_own(tmp_path: Path) -> None:
    write_images(tmp_path, range(2))
    rows = [(101, "0.png", "a"), (102, "0.png", ["b", " ", "c"]), (7, "1.png", "d"), (7, "1.png", "e")]
    records = [dict(zip(("id", "image", "caption"), row, strict=True)) for row in rows]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    pairs, skipped, _ = read(Table(f"{tmp_path}/t.jsonl", key="id"))
    assert {key: pair.caption for key, pair in pairs.items()} == {"101": "a", "102": "b", "102#1": "c", "7": "d", "7#1": "e"}
    assert not skipped and pairs["101"].image_number == pairs["102"].image_number
    records[1]["id"] = "a\0"
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    pairs, skipped, _ = read(Table(f"{tmp_path}/t.jsonl", key="id"))
    assert list(pairs) == ["101", "7", "7#1"] and [pair.key for pair in skipped] == ["line 2"]
    assert skipped[0].reason.startswith("odd characters (its key holds a NUL")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_negative_captions_of_a_table(tmp_path: Path, suffix: str) -> None:
    rows = [("0.png", "a cat on a mat", "a mat on a cat"), ("1.png", "a tom", None), ("0.png", "a cat", None)]
    write_images(tmp_path, range(2))
    path = tmp_path / f"t.{suffix}"
    if suffix == "csv":
        path.write_text("image,caption,negative_caption\n" + "".join(f"{i},{c},{n or ''}\n" for i, c, n in rows))
    else:
        names = ("image", "caption", "negative_caption")
        records = [dict(zip(names, row, strict=True)) for row in rows]
        if suffix == "jsonl":
            path.write_text("".join(json.dumps(record) + "\n" for record in records))
        else:
            pa = pytest.importorskip("pyarrow")
            pytest.importorskip("pyarrow.parquet").write_table(pa.Table.from_pylist(records), path)
    pairs, skipped, _ = read(str(path))
    found = {pair.caption: pair.negative_caption for pair in pairs.values()}
    assert found == {"a cat on a mat": "a mat on a cat", "a cat": None, "a tom": None} and not skipped


def test_negative_captions_late_in_a_table_and_too_many(tmp_path: Path) -> None:
    write_images(tmp_path, range(1))
    records: list[dict[str, Any]] = [{"image": "0.png", "caption": f"caption {number}"} for number in range(1001)]
    records += [
        {"image": "0.png", "caption": "a cat", "negative_caption": "a dog"},
        {"image": "0.png", "negative_caption": "x"},
    ]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    pairs, skipped, _ = read(str(path))
    assert [pair.negative_caption for pair in pairs.values()] == [None] * 1001 + ["a dog"] and not skipped
    path.write_text(json.dumps({"image": "0.png", "caption": ["a", "b"], "negative_caption": "c"}))
    with pytest.raises(
        ValueError, match=r"t.jsonl, line 1, has 1 entries in the column negative_caption for 2 captions\. Give"
    ):
        read(str(path))


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    write_images(tmp_path, range(8))
    path = tmp_path / "t.csv"
    path.write_text("image,caption\n" + "".join(f"{number}.png,caption {number}\n" for number in range(10)))
    with pytest.raises(ValueError, match=rf"missing: 2 of its 10, first 8.png. Paths begin at {tmp_path}; .*most_missing=0.1"):
        find_sources([str(path)])
    pairs, skipped, _ = read(Table(str(path), most_missing=0.2))
    assert len(pairs) == 8
    assert [(pair.key, pair.reason) for pair in skipped] == [
        (f"{n}.png", f"its image file is missing ({n}.png)") for n in (8, 9)
    ]
    with pytest.raises(ValueError, match=r"most_missing is 2.0; it is a share"):
        find_sources([Table(str(path), most_missing=2.0)])
    path.write_text("url,caption\nhttps://host/0.png,one\n")
    with pytest.raises(ValueError, match=r"line 2: https://host/0.png is the URL of a web server. Download the images first"):
        find_sources([str(path)])
    path.write_text(f"url,caption\nfile://{tmp_path}/0.png,one\n{tmp_path}/1.png,two\n")
    assert [pair.image for pair in read(str(path))[0].values()] == [image_bytes(0), image_bytes(1)]


def test_odd_files_cost_their_pairs_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listed, "MOST_BYTES", 1 << 20)
    write_images(tmp_path, range(1))
    (tmp_path / "folder").mkdir()
    (tmp_path / "large.png").write_bytes(bytes(1 + (1 << 20)))
    rows = ["0.png", "folder", "large.png", "nul\0.png", "sur\ud800.png", "x" * 5000]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"image": name, "caption": "a"}) + "\n" for name in rows))
    pairs, skipped, _ = read(Table(f"{tmp_path}/t.jsonl", most_missing=1.0))
    assert list(pairs) == ["0.png"] and len(skipped) == 5
    reasons = [pair.reason.partition(" (")[0] for pair in skipped]
    assert reasons[0] == reasons[1] == "one of its files is not read" and "it is a folder" in skipped[0].reason
    assert "larger than 1 MiB" in skipped[1].reason


# ---- MSCOCO


@pytest.mark.long
def test_coco_with_five_captions_an_image(tmp_path: Path, real_data: RealData, capsys: pytest.CaptureFixture[str]) -> None:
    coco = real_data("coco")
    annotations = json.loads((coco / "captions_val2017_subset.json").read_text())
    (tmp_path / "annotations").mkdir()
    path = tmp_path / "annotations" / "captions_val2017.json"
    shutil.copy(coco / "captions_val2017_subset.json", path)
    with pytest.raises(ValueError, match=r"missing: 57 of its 57, first 0000.*jpg. Give the folder or the zip archive"):
        find_sources([str(path)])
    with zipfile.ZipFile(tmp_path / "val2017.zip", "w") as archive:
        for image in (coco / "val2017").glob("*.jpg"):
            archive.write(image, f"val2017/{image.name}")
    by_zip, _, lines = read(str(path))
    shutil.copytree(coco / "val2017", tmp_path / "val2017")
    by_folder, _, _ = read(Coco(str(path), str(tmp_path / "val2017")))
    (tmp_path / "val2017.zip").unlink()
    guessed, _, _ = read(str(path))
    assert by_zip == by_folder == guessed
    assert lines == [f"found MSCOCO: 57 images, {len(annotations['annotations'])} captions"]
    written = {}
    for row in annotations["annotations"]:
        written.setdefault(f"{row['image_id']:012d}", []).append(row["caption"].strip())
    assert {key: pair.caption for key, pair in by_zip.items()} == {
        f"{stem}#{number}" if number else stem: text for stem, texts in written.items() for number, text in enumerate(texts)
    }
    encoder = ["--encoder.model", "ViT-S-32-alt", "--encoder.pretrained", "random", "--workers", "0"]
    assert main(["embed", "--source", str(path), "--out", f"{tmp_path}/set", "--val", "0.2", *encoder]) == 0
    assert "found MSCOCO: 57 images" in capsys.readouterr().out
    shards = ShardSet(tmp_path / "set")
    assert sum(entry.images for entry in shards.entries) == 57 and len(shards) == len(annotations["annotations"])
    assert main(["verify", f"{tmp_path}/set"]) == 0 and "more than one split" not in capsys.readouterr().err


def test_splits_of_karpathy(tmp_path: Path) -> None:
    write_images(tmp_path / "train2014", range(2))
    write_images(tmp_path / "val2014", range(2, 4))
    images = [
        {
            "filepath": f"{where}2014",
            "filename": f"{n}.png",
            "split": split,
            "sentences": [{"raw": f"a {n}"}, {"raw": f"b {n}"}],
        }
        for n, (where, split) in enumerate([("train", "train"), ("train", "train"), ("val", "restval"), ("val", "test")])
    ]
    path = tmp_path / "dataset_coco.json"
    path.write_text(json.dumps({"images": images, "dataset": "coco"}))
    pairs, skipped, _ = read(str(path))
    assert not skipped and {key: (pair.caption, pair.split) for key, pair in pairs.items() if "#" in key} == {
        "0#1": ("b 0", "train"),
        "1#1": ("b 1", "train"),
        "2#1": ("b 2", "train"),
        "3#1": ("b 3", "test"),
    }
    assert {pair.split for pair in read(Coco(str(path), split="val"))[0].values()} == {"val"}


def test_files_of_one_name_in_two_folders(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b")):
        write_images(tmp_path / name, range(number, number + 1))
        (tmp_path / name / f"{number}.png").rename(tmp_path / name / "0001.png")
    write_images(tmp_path / "a", range(2, 3))
    files = ["a/0001.png", "b/0001.png", "a/2.png"]
    path = tmp_path / "c.json"
    images = [{"id": number, "file_name": file} for number, file in enumerate(files)]
    captions = [{"image_id": number, "caption": file} for number, file in enumerate(files)]
    path.write_text(json.dumps({"images": images, "annotations": captions}))
    pairs, _, _ = read(str(path))
    assert {key: pair.caption for key, pair in pairs.items()} == {**{file: file for file in files[:2]}, "2": files[2]}
    assert [pair.image for pair in pairs.values()] == [image_bytes(number) for number in range(3)]
    karpathy = [
        {"filepath": name, "filename": "0001.png", "split": "train", "sentences": [{"raw": name}]} for name in ("a", "b")
    ]
    path.write_text(json.dumps({"images": karpathy}))
    assert {key: pair.caption for key, pair in read(str(path))[0].items()} == {"a/0001.png": "a", "b/0001.png": "b"}


def test_what_is_not_cocos_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    boxes = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [{"image_id": 1, "bbox": [0, 0, 1, 1]}]}
    lost = {"images": [], "annotations": [{"image_id": 1, "caption": "a"}]}
    for content, expected in [
        ("{", "is no JSON"),
        ("[]", "is not MSCOCO's JSON"),
        ('{"images": []}', "has no list of annotations; its entries are images"),
        (json.dumps(boxes), r"lacks 'caption'. captions_\*.json holds the captions"),
        (json.dumps(lost), "captions of 1 images that it does not name, first 1"),
    ]:
        path.write_text(content)
        with pytest.raises(ValueError, match=expected):
            find_sources([str(path)])
    (tmp_path / "b.zip").write_bytes(b"PK\3\4 cut off")
    path.write_text(json.dumps({"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": []}))
    with pytest.raises(ValueError, match=r"b.zip is no zip archive, or it is damaged"):
        find_sources([Coco(str(path), str(tmp_path / "b.zip"))])
    with pytest.raises(ValueError, match=r"There is no nowhere \(--source.images\)"):
        find_sources([Coco(str(path), "nowhere")])


def test_a_zip_may_be_a_bomb_or_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listed, "MOST_BYTES", 1 << 20)
    named = [{"id": number, "file_name": f"{number}.png"} for number in range(3)]
    captions = [{"image_id": number, "caption": f"caption {number}"} for number in range(3)]
    (tmp_path / "c.json").write_text(json.dumps({"images": named, "annotations": captions}))
    with zipfile.ZipFile(tmp_path / "images.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.png", bytes(1 << 24))
        archive.writestr("1.png", image_bytes(1))
        archive.writestr("2.png", image_bytes(2))
        place = archive.getinfo("2.png").header_offset
    content = bytearray((tmp_path / "images.zip").read_bytes())
    content[place + 200] ^= 255
    (tmp_path / "images.zip").write_bytes(content)
    pairs, skipped, _ = read(f"{tmp_path}/c.json")
    assert list(pairs) == ["1"]
    assert "larger than 1 MiB" in skipped[0].reason and "images.zip does not give it" in skipped[1].reason


# ---- Hugging Face


@pytest.mark.long
def test_data_sets_of_hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    for module in ("huggingface_hub.constants", "datasets.config"):  # without the hub there are no retries
        monkeypatch.setattr(f"{module}.HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    text = datasets.Value("string")
    features = datasets.Features(
        {"picture": datasets.Image(), "text": text, "n": datasets.Value("int64"), "negative_caption": text}
    )

    def rows(numbers: range) -> Any:
        images = [{"bytes": image_bytes(number), "path": None} for number in numbers]
        texts = [None if number == 1 else f"caption {number}" for number in numbers]
        negatives = [f"no caption {number}" if number == 2 else None for number in numbers]
        columns = {"picture": images, "text": texts, "n": list(numbers), "negative_caption": negatives}
        return datasets.Dataset.from_dict(columns, features=features)

    parts = {"train": range(4), "validation": range(4, 6), "test": range(6, 8)}
    datasets.DatasetDict({name: rows(numbers) for name, numbers in parts.items()}).save_to_disk(tmp_path / "saved")
    for name, numbers in parts.items():
        rows(numbers).to_parquet(tmp_path / "parquet" / f"{name}-00000-of-00002.parquet")
    rows(range(8, 10)).to_parquet(tmp_path / "parquet" / "train-00001-of-00002.parquet")
    for name, more in (("saved", 0), ("parquet", 2)):
        pairs, skipped, lines = read(str(tmp_path / name))
        assert len(pairs) == 7 + more and len(skipped) == 1 and skipped[0].reason == "no caption"
        assert {pair.caption: pair.image for pair in pairs.values()} == {
            f"caption {n}": image_bytes(n) for n in (0, *range(2, 8 + more))
        }
        assert {pair.caption: pair.split for pair in pairs.values()}["caption 5"] == "val"
        negatives = {pair.caption: pair.negative_caption for pair in pairs.values() if pair.negative_caption}
        assert negatives == {"caption 2": "no caption 2"}
        assert lines[0].startswith(f"found a data set of Hugging Face, in {3 + bool(more)} parts: ")
    only = HuggingFace(str(tmp_path / "saved"), split="train", key="n", shard_images=2)
    found = find_sources([only])
    assert list(found.parts) == ["saved_train_00000.tar", "saved_train_00001.tar"]
    pairs, _, _ = read(only)
    assert {key: pair.split for key, pair in pairs.items()} == {"0": None, "2": None, "3": None}
    part = found.parts["saved_train_00000.tar"]
    reading = part.read()
    assert len(list(reading)) == 2 and reading.sha256 == part.sha256() and part.version() == part.version() != ""
    with pytest.raises(ValueError, match=r"has no split 'dev'; it has train, validation, test"):
        find_sources([HuggingFace(str(tmp_path / "saved"), split="dev")])
    with pytest.raises(
        ValueError, match=r"has no column 'caption' \(--source.caption\); it has picture, text, n, negative_caption"
    ):
        find_sources([HuggingFace(str(tmp_path / "saved"), caption="caption")])
    with pytest.raises(ValueError, match=r"The data set owner/nothing cannot be opened"):
        find_sources(["hf://datasets/owner/nothing"])
    table = tmp_path / "images"
    write_images(table, range(2))
    (table / "metadata.csv").write_text("file_name,text\n0.png,zero\n1.png,one\n")
    assert [pair.caption for pair in read(str(table))[0].values()] == ["zero", "one"]


@pytest.mark.long
def test_a_hugging_face_set_is_embedded_and_resumed(tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    images = [{"bytes": image_bytes(number), "path": None} for number in range(6)]
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    rows = {"image": images, "caption": [f"caption {number}" for number in range(6)]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    source = HuggingFace(str(tmp_path / "saved"), shard_images=2)
    embed([source], clip_encoder, tmp_path / "whole")
    embed([source], clip_encoder, tmp_path / "set")
    (tmp_path / "set" / "saved_train_00001.tar").unlink()
    embed([source], clip_encoder, tmp_path / "set")
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


@pytest.mark.parametrize("count", [0, -1])
def test_a_shard_without_images(tmp_path: Path, count: int) -> None:
    (tmp_path / "t.csv").write_text("image,caption\n0.png,a\n")
    (write_images(tmp_path, range(1)) / "0.txt").write_text("a")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "state.json").touch()
    for source in (
        Table(f"{tmp_path}/t.csv", shard_images=count),
        ImageFolder(str(tmp_path), shard_images=count),
        HuggingFace(f"{tmp_path}/saved", shard_images=count),
    ):
        with pytest.raises(ValueError, match=f"^--source.shard_images is {count}; it must be 1 or more.$"):
            source.listing()


# ---- the images of a set's pairs


def test_an_image_is_not_taken_for_another_of_its_key(tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    tars = [write_tar(tmp_path / f"{tar}.tar", {str(n): sample(10 * tar + n) for n in range(3)}) for tar in range(2)]
    embed([str(tar) for tar in tars], clip_encoder, tmp_path / "set", val=0.0, test=0.0)
    shards = ShardSet(tmp_path / "set")
    pairs = RealPairs.read(shards, "train")
    assert [key for key, _ in pairs.images] == ["0", "1", "2"] * 2
    images = read_images(shards.manifest.sources, pairs.images, AS_SHOWN)
    for name, caption in zip(pairs.images, pairs.captions, strict=True):
        number = int(caption.split()[2])  # "image number 12 of the set"
        assert images[name].tobytes() == Image.open(io.BytesIO(image_bytes(number))).convert("RGB").tobytes()
    (image,) = read_images([str(tars[1])], [("1", 7)], AS_SHOWN).values()  # of imported embeddings the number is another
    assert image.tobytes() == Image.open(io.BytesIO(image_bytes(11))).convert("RGB").tobytes()
    with pytest.raises(ValueError, match=r"^No image of 3 in .*1\.tar\. Give the source"):
        read_images([str(tars[1])], [("3", 7)], AS_SHOWN)


# ---- one image, several captions


def test_an_image_is_encoded_once_for_all_its_captions(tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    tars = {
        f"{number}": {
            "png": image_bytes(number),
            "json": json.dumps({"captions": [f"{n} of {number}" for n in range(5)]}).encode(),
        }
        for number in range(6)
    }
    write_tar(tmp_path / "raw.tar", tars)
    seen: list[int] = []

    class Counting(OpenClipEncoder):
        def __init__(self) -> None:
            self.__dict__ |= clip_encoder.__dict__

        def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
            seen.append(len(pixels))
            return super().encode_images(pixels)

    embed([str(tmp_path / "raw.tar")], Counting(), tmp_path / "set", batch_size=12, chunk=64, val=0.0, test=0.0)
    assert sum(seen[1:]) == 6, "the first image is that of the space"
    pairs = read_all(tmp_path / "set")
    alone = embed([str(tmp_path / "raw.tar")], clip_encoder, tmp_path / "alone", batch_size=1, chunk=64, val=0.0, test=0.0)
    assert alone.pairs == len(pairs) == 30
    for key, pair in read_all(tmp_path / "alone").items():
        torch.testing.assert_close(pairs[key]["image"], pair["image"], rtol=2e-3, atol=2e-3)
        torch.testing.assert_close(pairs[key]["text"], pair["text"], rtol=2e-3, atol=2e-3)
    assert [entry.images for entry in ShardSet(tmp_path / "set").entries] == [6]


# ---- the front door


def test_a_source_of_a_class(tmp_path: Path, clip_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path / "images", range(5))
    (tmp_path / "t.csv").write_text("photo,words\n" + "".join(f"{n}.png,caption {n}\n" for n in range(5)))
    args = ["embed", "--out", f"{tmp_path}/set", "--encoder.model", f"local-dir:{clip_folder}", "--encoder.pretrained", "null"]
    table = ["--source", "Table", "--source.path", f"{tmp_path}/t.csv"]
    options = ["--source.image", "photo", "--source.folder", f"{tmp_path}/images", "--workers", "0"]
    assert main([*args, *table, *options, "--source.caption", "words"]) == 0, capsys.readouterr().err
    assert "found a table: 5 images, 5 captions" in capsys.readouterr().out
    made = Manifest.load(tmp_path / "set")
    assert made.pairs == 5 and f"--source Table --source.path {tmp_path}/t.csv" in made.made_by
    with pytest.raises(SystemExit):
        main([*args, *table, *options, "--source.captoin", "words"])
    assert capsys.readouterr().err.endswith("source of Table: Option 'captoin' is not accepted; near it: caption.\n")


@pytest.mark.processes
def test_tars_in_s3(tmp_path: Path, clip_encoder: OpenClipEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_folder, "WAITS", (0.0, 0.0))
    tars = [write_tar(tmp_path / f"{number}.tar", {f"{number}": sample(number)}) for number in range(3)]
    with s3_bucket("raw", monkeypatch) as client:
        for tar in tars:
            client.upload_file(str(tar), "raw", f"set/{tar.name}")
        options = {"val": 0.0, "test": 0.0}
        local = embed([f"{tmp_path}/{{0..2}}.tar"], clip_encoder, tmp_path / "local", **options)
        for number, pattern in enumerate(("s3://raw/set/*.tar", "s3://raw/set/{0..2}.tar")):
            remote = embed([pattern], clip_encoder, tmp_path / f"remote{number}", **options)
            assert [shard.sha256 for shard in remote.shards] == [shard.sha256 for shard in local.shards]
        again = embed(["s3://raw/set/*.tar"], clip_encoder, tmp_path / "remote0", **options)
        assert again == Manifest.load(tmp_path / "remote0")
        with pytest.raises(ValueError, match=r"There is no source s3://raw/none/\*.tar"):
            find_sources(["s3://raw/none/*.tar"])
        with pytest.raises(ValueError, match=r"1 of 1 sources could not be read to their end: s3://raw/set/9.tar \("):
            embed(["s3://raw/set/9.tar"], clip_encoder, tmp_path / "none", **options)


@pytest.mark.long
def test_pixels_of_all_kinds_come_through(tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    """Sources other than tars decode as tars do: CMYK, 16 bits, palettes with transparency, animations, EXIF."""
    folder = tmp_path / "images"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
    image.convert("P").save(folder / "palette.png", transparency=0)
    image.save(folder / "moving.gif", save_all=True, append_images=[image.rotate(90)])
    image.save(folder / "turned.jpg", exif=exif)
    Image.new("RGB", (1, 1)).save(folder / "one.png")
    samples = {}
    for path in sorted(folder.iterdir()):
        samples[path.stem] = {path.suffix[1:]: path.read_bytes(), "txt": path.stem.encode()}
        path.with_suffix(".txt").write_text(path.stem)
    write_tar(tmp_path / "raw.tar", samples)
    content = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(content, "PNG")
    (folder / "huge.png").write_bytes(content.getvalue())
    (folder / "huge.txt").write_text("huge")
    options = {"val": 0.0, "test": 0.0, "batch_size": 8}
    by_folder = embed([str(folder)], clip_encoder, tmp_path / "by_folder", **options)
    embed([str(tmp_path / "raw.tar")], clip_encoder, tmp_path / "by_tar", **options)
    ours, theirs = read_all(tmp_path / "by_folder"), read_all(tmp_path / "by_tar")
    assert ours.keys() == theirs.keys() == samples.keys()
    for key, pair in theirs.items():
        torch.testing.assert_close(ours[key]["image"], pair["image"], rtol=2e-3, atol=2e-3)
    (huge,) = by_folder.shards[0].skipped
    assert huge.key == "huge" and "400000000 pixels" in huge.reason
