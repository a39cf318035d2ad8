from __future__ import annotations

import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eclipse_pl.data.chunk import MEMBERS, Chunk, image_numbers, shared_images
from eclipse_pl.data.manifest import SkippedPair
from eclipse_pl.data.shards import ShardWriter
from eclipse_pl.files import partial_path
from tests.helpers.shard_sets import make_chunk, make_shard_set


def chunk_of(pairs: int = 5, **options: object) -> Chunk:
    return replace(make_chunk(np.random.default_rng(pairs), pairs, 8, 6), **options)


def subjects(counts: list[int], spans: list[list[int]]) -> dict[str, np.ndarray]:
    return {
        "subject_counts": np.array(counts),
        "subject_spans": np.array(spans),
        "subject_embed": np.random.default_rng(0).normal(size=(len(spans), 8)),
    }


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves its file open
def test_webdataset_reads_a_shard(tmp_path: Path) -> None:
    import webdataset

    chunks = [chunk_of(5), chunk_of(3, negative_embed=None, subsets=None)]
    with ShardWriter(tmp_path / "0000.tar") as writer:
        writer.write(chunks[0], "train")
        writer.write(chunks[1], "val")
        entry = writer.close()
    samples = list(webdataset.WebDataset(str(tmp_path / "0000.tar"), shardshuffle=False).decode())
    assert [sample["__key__"] for sample in samples] == [record.key for record in entry.records]
    for sample, chunk in zip(samples, chunks, strict=True):
        for name, member in MEMBERS.items():
            if (expected := getattr(chunk, name)) is not None:
                assert sample[f"{name}.npy"].dtype == member.dtype
                np.testing.assert_array_equal(sample[f"{name}.npy"], expected.astype(member.dtype))
        np.testing.assert_array_equal(sample["group.npy"], image_numbers(chunk.image_embed))
        assert sample["captions.json"]["captions"] == chunk.captions
        assert sample["captions.json"]["keys"] == chunk.keys
    np.testing.assert_array_equal(samples[0]["negative_embed.npy"], chunks[0].negative_embed.astype(np.float16))
    assert samples[0]["captions.json"]["subsets"] == chunks[0].subsets
    assert "negative_embed.npy" not in samples[1] and "subsets" not in samples[1]["captions.json"]


def test_manifest_row_describes_the_tar(tmp_path: Path) -> None:
    import hashlib

    skipped = [SkippedPair("000000007", "the image cannot be decoded")]
    with ShardWriter(tmp_path / "0000.tar") as writer:
        writer.write(chunk_of(5), "train")
        entry = writer.close(cut=2, skipped=skipped)
    content = (tmp_path / "0000.tar").read_bytes()
    assert (entry.bytes, entry.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert (entry.pairs, entry.cut, entry.skipped) == (5, 2, skipped)
    with tarfile.open(tmp_path / "0000.tar") as tar:
        places = {member.name: (member.offset_data, member.size) for member in tar}
    record = entry.records[0]
    assert places == {f"{record.key}.{name}": place for name, place in record.members.items()}
    members = b"".join(content[offset : offset + size] for offset, size in record.members.values())
    assert record.sha256 == hashlib.sha256(members).hexdigest()


def test_bytes_depend_on_nothing_but_content(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_shard_set(tmp_path / name, splits={"train": 20, "val": 5})
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["0000.tar", "manifest.json", "space.safetensors"]
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_nothing_is_left_of_a_shard_that_failed(tmp_path: Path) -> None:
    with pytest.raises(KeyError), ShardWriter(tmp_path / "0000.tar") as writer:
        writer.write(chunk_of(5), "train")
        raise KeyError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pairs", [5, 2000])  # the disk is full when the file is closed, or while it is written
def test_full_disk(tmp_path: Path, pairs: int) -> None:
    partial_path(tmp_path / "0000.tar").symlink_to("/dev/full")
    full = pytest.raises(ValueError, match=f"Could not write to {tmp_path} .No space left on device")
    with full, ShardWriter(tmp_path / "0000.tar") as writer:
        writer.write(chunk_of(pairs), "train")
        writer.close()
    assert not list(tmp_path.iterdir())


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Could not write to .*nowhere"):
        ShardWriter(tmp_path / "nowhere" / "0000.tar")


@pytest.mark.parametrize("name", ["0000.zip", "a.b.tar", ".tar"])
def test_shard_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"no other dot"):
        ShardWriter(tmp_path / name)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"image_embed": np.full((5, 8), np.nan)}, "image_embed holds NaN"),
        ({"text_embed": np.full((5, 8), 1e6)}, "text_embed holds .*too large for float16"),
        ({"lengths": np.full(5, 2)}, "lengths add up to 10"),
        ({"captions": ["one"]}, "captions has 1 entries for 5 pairs"),
        ({"subsets": []}, "subsets has 0 entries"),
        ({"image_rows": np.array([0, 1, 2, 3, 5])}, "image_rows must use each of 0 ... 5, and uses .0, 1, 2, 3, 5."),
        ({"image_rows": np.array([0, 1, 2, 3, -1])}, "image_rows must use each of 0 ... 3"),
        ({"image_rows": np.array([0, 1, 2, 3, 3])}, "pairs of different image embeddings one image"),
        ({"subject_counts": np.zeros(5, int)}, "subject_counts is given without subject_spans"),
        (subjects([1, 0, 0, 0, 1], [[1, 2]]), "subject_counts add up to 2, but there are 1 spans"),
        (subjects([1, 0, 0, 0, 0], [[1, 100]]), "outside the tokens of its caption"),
        (subjects([0, 1, 0, 0, 0], [[1, 1]]), "is empty or lies outside"),
    ],
)
def test_chunks_that_do_not_fit_together(tmp_path: Path, change: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence), ShardWriter(tmp_path / "0000.tar") as writer:
        writer.write(chunk_of(5, **change), "train")


def test_unknown_split(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'dev' is unknown.*train, val, test"), ShardWriter(tmp_path / "0000.tar") as writer:
        writer.write(chunk_of(5), "dev")


def test_images_are_identified_by_their_stored_embeddings() -> None:
    one, other = np.random.default_rng(0).normal(size=(2, 8))
    images = np.stack([one, other, one, one * (1 + 1e-7), other])
    images[2, 3] = images[0, 3] = 0.0
    images[3, 3] = -0.0
    numbers = image_numbers(images)
    assert numbers[0] == numbers[2] == numbers[3] and numbers[1] == numbers[4] and numbers[0] != numbers[1]
    assert numbers.tolist() == image_numbers(images.astype(np.float16)).tolist() and numbers.min() >= 0
    rows = shared_images(images[[1, 0, 2, 4]])
    assert rows is not None and rows.tolist() == [0, 1, 1, 0]
    assert shared_images(images[:2]) is None
