from __future__ import annotations

import json
from pathlib import Path

import pytest

from eclipse_pl.raw.find_sources import find_sources
from eclipse_pl.raw.table import Table
from tests.helpers.raw_sets import image_bytes, read_source, write_images


def test_blanks_around_cells_do_not_count(tmp_path: Path) -> None:
    write_images(tmp_path, range(3))
    path = tmp_path / "t.csv"
    path.write_text(
        "caption, image, split, group, subset, id\n"
        "a red , 0.png, val, g , s, 7\na blue,0.png,val,g,s,8\n"
        f"c, file://{tmp_path}/1.png, , , ,9\nd,\t2.png ,\u00a0test,,, 10 \n"
    )
    pairs, skipped, lines = read_source(Table(str(path), most_missing=0.0))
    assert not skipped and lines == ["found a table: 3 images, 4 captions"]
    facts = [(pair.key, pair.caption, pair.split, pair.group, pair.subset) for pair in pairs.values()]
    assert facts == [
        ("0.png", "a red", "val", "g", "s"),
        ("0.png#1", "a blue", "val", "g", "s"),
        (f"file://{tmp_path}/1.png", "c", None, None, ""),
        ("2.png", "d", "test", None, ""),
    ]
    assert list(read_source(Table(str(path), key="id"))[0]) == ["7", "8", "9", "10"]
    path.write_text("caption, url\na, https://host/0.png\n")
    with pytest.raises(ValueError, match=r"line 2: https://host/0\.png is the URL of a web server"):
        find_sources([str(path)])


def test_a_file_whose_name_has_blanks_around_is_found(tmp_path: Path) -> None:
    write_images(tmp_path, range(2))
    (tmp_path / "0.png").rename(tmp_path / " 0.png")
    path = tmp_path / "t.csv"
    path.write_text("caption,image\na, 0.png\nb, 1.png\n")
    pairs, skipped, _ = read_source(Table(str(path), most_missing=0.0))
    assert not skipped and {key: pair.image for key, pair in pairs.items()} == {
        " 0.png": image_bytes(0),
        "1.png": image_bytes(1),
    }


def test_facts_of_parquet_and_json_are_stripped_too(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    write_images(tmp_path, range(1))
    rows = {"image": ["0.png "], "caption": ["a"], "split": [" val"], "group": [5], "subset": ["s "]}
    parquet.write_table(pa.table(rows), tmp_path / "t.parquet")
    (tmp_path / "t.jsonl").write_text(json.dumps({name: cells[0] for name, cells in rows.items()}))
    for name in ("t.parquet", "t.jsonl"):
        (pair,) = read_source(f"{tmp_path}/{name}")[0].values()
        assert (pair.key, pair.split, pair.group, pair.subset) == ("0.png", "val", "5", "s")


def test_a_caption_that_is_no_utf_8_costs_the_pairs_of_its_image(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    write_images(tmp_path, range(2))
    rows = {"image": ["0.png", "0.png", "1.png"], "caption": pa.array([b"a", b"\xff", b"b"], pa.binary())}
    parquet.write_table(pa.table(rows), tmp_path / "t.parquet")
    pairs, skipped, _ = read_source(f"{tmp_path}/t.parquet")
    assert list(pairs) == ["1.png"]
    assert [(pair.key, pair.reason) for pair in skipped] == [
        ("0.png", "its caption is no text (its 'caption' is a list with no UTF-8)")
    ]


def test_a_row_without_a_key_is_skipped(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    write_images(tmp_path, range(3))
    (tmp_path / "t.csv").write_text("image,caption,id\n0.png,a,7\n0.png,b,\n1.png,c, \n2.png,d,8\n0.png,e,9\n")
    images = ["0.png", "0.png", "1.png", "2.png", "0.png"]
    rows = {"image": images, "caption": list("abcde"), "id": [7, None, None, 8, 9]}
    parquet.write_table(pa.table(rows), tmp_path / "t.parquet")
    listed = [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]
    listed[1]["id"] = float("nan")
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(row) for row in listed))
    for name, places in (
        ("t.csv", ["line 3", "line 4"]),
        ("t.parquet", ["row 1", "row 2"]),
        ("t.jsonl", ["line 2", "line 3"]),
    ):
        pairs, skipped, lines = read_source(Table(f"{tmp_path}/{name}", key="id"))
        assert {key: (pair.caption, pair.image) for key, pair in pairs.items()} == {
            "7": ("a", image_bytes(0)),
            "9": ("e", image_bytes(0)),
            "8": ("d", image_bytes(2)),
        }
        assert [(pair.key, pair.reason) for pair in skipped] == [(place, "no key") for place in places]
        assert lines == ["found a table: 2 images, 3 captions"]
    rows = {"image": ["0.png", "1.png"], "caption": ["a", "b"], "id": pa.array([b"\xff", b"8"], pa.binary())}
    parquet.write_table(pa.table(rows), tmp_path / "b.parquet")
    pairs, skipped, _ = read_source(Table(f"{tmp_path}/b.parquet", key="id"))
    assert list(pairs) == ["8"]
    assert [(pair.key, pair.reason) for pair in skipped] == [("row 0", "odd characters (its key is no UTF-8)")]
