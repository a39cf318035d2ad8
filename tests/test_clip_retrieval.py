"""Folders of clip-retrieval: parts whose rows belong together, or one sentence that names the part."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep.import_embeddings import import_embeddings
from eclipse_pl.data.shard_set import ShardSet

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

Table = dict[str, list[Any]]


def write_part(folder: Path, number: str, images: int, texts: int, table: Table) -> None:
    """One part; embedding j of part n is (n, j + 1, 1), so that a shifted row is seen."""
    for kind, rows in (("img_emb", images), ("text_emb", texts)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        values = [[float(number), row + 1, 1] for row in range(rows)]
        np.save(folder / kind / f"{kind}_{number}.npy", np.array(values, np.float32).reshape(rows, 3))
    (folder / "metadata").mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(table), folder / "metadata" / f"metadata_{number}.parquet")


def captions(number: int, rows: int) -> Table:
    return {"caption": [f"caption {row} of {number}" for row in range(rows)]}


def read(folder: Path, out: Path, **options: Any) -> list[tuple[str, str, list[float]]]:
    """(key, caption, image embedding) of every pair."""
    import_embeddings(str(out), clip_retrieval=str(folder), **options)
    shards = ShardSet(out)
    found = []
    for number in range(len(shards.entries)):
        chunk = shards.read_chunk(number)
        rows = range(len(chunk)) if chunk.image_rows is None else chunk.image_rows
        images = [chunk.image_embed[row].tolist() for row in rows]
        found += list(zip(chunk.keys, chunk.captions, images, strict=True))
    return found


@pytest.mark.long
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.sampled_from(["{}", "{:02}", "{:04}"]), st.data())
def test_parts_in_the_order_of_their_numbers(
    tmp_path_factory: pytest.TempPathFactory, rows: list[int], form: str, data: st.DataObject
) -> None:
    """Any number of parts with any numbers of rows; one of them then loses or gains a row somewhere."""
    folder = tmp_path_factory.mktemp("parts")
    for number, count in enumerate(rows):
        write_part(folder, form.format(number), count, count, captions(number, count))
    if sum(rows):
        found = read(folder, folder / "set")
        wanted = [
            (f"caption {row} of {number}", [number, row + 1, 1]) for number, count in enumerate(rows) for row in range(count)
        ]
        assert [(caption, image) for _, caption, image in found] == wanted
        assert [key for key, _, _ in found] == [str(row) for row in range(len(wanted))]
    number = data.draw(st.integers(0, len(rows) - 1))
    other = data.draw(st.integers(0, 4).filter(lambda count: count != rows[number]))
    kind = data.draw(st.sampled_from(["images", "texts", "captions"]))
    counts = dict.fromkeys(("images", "texts", "captions"), rows[number]) | {kind: other}
    write_part(folder, form.format(number), counts["images"], counts["texts"], captions(number, counts["captions"]))
    with pytest.raises(ValueError, match=f"The rows of part {number} do not belong together: "):
        read(folder, folder / "other")


def whole(folder: Path, parts: int = 3) -> Path:
    for number in range(parts):
        write_part(folder, str(number), 2, 2, captions(number, 2))
    return folder


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("kinds", [["img_emb"], ["text_emb"], ["metadata"], ["img_emb", "text_emb", "metadata"]])
def test_a_missing_part_is_named(tmp_path: Path, number: int, kinds: list[str]) -> None:
    folder = whole(tmp_path / "cr")
    for kind in kinds:
        next((folder / kind).glob(f"{kind}_{number}.*")).unlink()
    if number == 2 and len(kinds) == 3:
        assert len(read(folder, tmp_path / "set")) == 4  # nobody can know that there was another
        return
    with pytest.raises(ValueError, match=f"Part {number} of .* is missing: no .*{kinds[0]}_{number}"):
        read(folder, tmp_path / "set")


def copy_of_part_1(folder: Path) -> None:
    (folder / "img_emb" / "img_emb_01.npy").write_bytes((folder / "img_emb" / "img_emb_1.npy").read_bytes())


def browser_copy(folder: Path) -> None:
    (folder / "img_emb" / "img_emb_1 (1).npy").write_bytes((folder / "img_emb" / "img_emb_1.npy").read_bytes())


def cut_metadata(folder: Path) -> None:
    (folder / "metadata" / "metadata_1.parquet").write_bytes(b"PAR1 cut off")


def wider(folder: Path) -> None:
    for kind in ("img_emb", "text_emb"):
        np.save(folder / kind / f"{kind}_1.npy", np.ones((2, 5)))


def other_columns(folder: Path) -> None:
    parquet.write_table(pa.table({"text": ["a", "b"]}), folder / "metadata" / "metadata_1.parquet")


def no_texts(folder: Path) -> None:
    for path in (folder / "text_emb").iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("harm", "match"),
    [
        (copy_of_part_1, r"img_emb_0?1\.npy and .*img_emb_0?1\.npy are both part 1"),
        (browser_copy, r"img_emb_1 \(1\)\.npy is no part by its name"),
        (cut_metadata, "metadata_1.parquet cannot be read as Parquet"),
        (wider, r"shape \(2, 5\) and image embeddings of shape \(2, 3\) are not of one CLIP space"),
        (other_columns, "metadata_1.parquet has no column 'caption', as earlier parts have"),
        (no_texts, "has no text_emb/.*--enable_text True"),
    ],
)
def test_harm(tmp_path: Path, harm: Callable[[Path], None], match: str) -> None:
    folder = whole(tmp_path / "cr")
    harm(folder)
    with pytest.raises(ValueError, match=match):
        read(folder, tmp_path / "set")


def test_an_empty_part_has_neither_a_width_nor_columns(tmp_path: Path) -> None:
    folder = whole(tmp_path / "cr")
    for kind in ("img_emb", "text_emb"):
        np.save(folder / kind / f"{kind}_0.npy", np.array([]))
    parquet.write_table(pa.table({}), folder / "metadata" / "metadata_0.parquet")
    assert len(read(folder, tmp_path / "set")) == 4


def test_files_of_macos_are_no_parts(tmp_path: Path) -> None:
    folder = whole(tmp_path / "cr")
    (folder / "img_emb" / "._img_emb_0.npy").write_bytes(b"Mac OS X")
    assert len(read(folder, tmp_path / "set")) == 6


@pytest.mark.parametrize(
    ("table", "taken", "said"),
    [
        ({"caption": ["a", "b"], "TEXT": ["c", "d"]}, "ab", "the captions are its column 'caption', not 'TEXT'"),
        ({"TEXT": ["a", "b"], "URL": ["c", "d"]}, "ab", "the captions are its column 'TEXT'"),
        ({"text": ["a", "b"]}, "ab", "the captions are its column 'text'"),
        ({"Caption": ["a", "b"]}, "ab", "the captions are its column 'Caption'"),
        ({"caption": ["a", "b"]}, "ab", ""),
        ({"caption": [b"a", "é".encode()]}, "aé", ""),
    ],
)
def test_the_column_of_captions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], table: Table, taken: str, said: str
) -> None:
    write_part(tmp_path / "cr", "0", 2, 2, table)
    assert [caption for _, caption, _ in read(tmp_path / "cr", tmp_path / "set")] == list(taken)
    told = capsys.readouterr().out
    assert said in told and ("the captions are" in told) == bool(said)


def test_the_column_that_is_asked_for(tmp_path: Path) -> None:
    from data_prep.embedding_files import ArrayNames

    write_part(tmp_path / "cr", "0", 2, 2, {"alt": ["a", "b"], "TEXT": ["c", "d"]})
    found = read(tmp_path / "cr", tmp_path / "set", names=ArrayNames(caption="alt"))
    assert [caption for _, caption, _ in found] == ["a", "b"]


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (
            {"TEXT": ["a", "b"], "text": ["c", "d"]},
            r"several may hold the captions \(TEXT, text\). Name it with --names.caption",
        ),
        ({"title": ["a", "b"], "url": ["c", "d"]}, "has the columns title, url: none of them has a usual name of captions"),
        ({"caption": [["a"], ["b", "c"]]}, r"column 'caption': row 0 .* is a list \(\['a'\]\); a caption is one string"),
        ({"caption": [1, 2]}, r"row 0 .* is a number \(1\)"),
        ({"caption": [1.5, None]}, r"row 0 .* is a number \(1.5\)"),
        ({"caption": [None, True]}, r"row 1 .* is a boolean \(True\)"),
        ({"caption": [{"en": "a"}, None]}, r"row 0 .* is a record \(\{'en': 'a'\}\)"),
        ({"caption": [datetime(2020, 1, 1), None]}, r"row 0 .* is a datetime "),
        ({"caption": ["a", "b"], "image_path": [1.0, 2.0]}, r"column 'image_path': row 0 .* is a number \(1.0\); a key is"),
        ({"caption": ["a", "b"], "image_path": [["a"], ["b"]]}, r"column 'image_path': row 0 .* is a list"),
    ],
)
def test_columns_that_are_no_captions_or_keys(tmp_path: Path, table: Table, match: str) -> None:
    write_part(tmp_path / "cr", "0", 2, 2, table)
    with pytest.raises(ValueError, match=match):
        read(tmp_path / "cr", tmp_path / "set")


def test_rows_without_caption_or_key_are_skipped_pairs(tmp_path: Path) -> None:
    """Numbers are keys (with a null beside them still whole ones); what is no UTF-8 costs its own row alone."""
    not_utf8 = pa.array([b"a", b"caf\xe9", b"c"]).view(pa.string())
    write_part(tmp_path / "cr", "0", 3, 3, {"caption": ["a", None, "c"], "image_path": [7, 8, None]})
    write_part(tmp_path / "cr", "2", 2, 2, {"caption": not_utf8[:2].dictionary_encode(), "image_path": ["x", "y"]})
    write_part(tmp_path / "cr", "1", 3, 3, {"caption": not_utf8, "image_path": [12345678901234567, 8, 9]})
    manifest = import_embeddings(str(tmp_path / "set"), clip_retrieval=str(tmp_path / "cr"))
    assert [(pair.key, pair.reason) for shard in manifest.shards for pair in shard.skipped] == [
        ("8", "no caption"),
        ("row 2", "no key"),
        ("8", "its caption is no text (it is no UTF-8)"),
        ("y", "its caption is no text (it is no UTF-8)"),
    ]
    shards = ShardSet(tmp_path / "set")
    assert shards.read_chunk(0).keys == ["7", "12345678901234567", "9", "x"]
    assert shards.read_chunk(0).captions == ["a", "a", "c", "a"]


def test_parts_of_other_precision(tmp_path: Path) -> None:
    folder = whole(tmp_path / "cr", parts=2)
    half = np.load(folder / "img_emb" / "img_emb_0.npy").astype(np.float16)
    np.save(folder / "img_emb" / "img_emb_0.npy", half)
    np.save(folder / "img_emb" / "img_emb_1.npy", np.full((2, 3), 1e5, np.float32))  # too large for float16, and said to be
    manifest = import_embeddings(str(tmp_path / "set"), clip_retrieval=str(folder))
    assert {pair.reason for pair in manifest.shards[0].skipped} == {"its image embedding is not finite in float16"}
