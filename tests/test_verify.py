from __future__ import annotations

import hashlib
import json
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.__main__ import main
from data_prep.distill import captions_of
from data_prep.overlap import overlap
from data_prep.verify import Finding, verify
from eclipse_pl.data.manifest import SPACE_NAME, Manifest
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.data.shards import ShardWriter
from eclipse_pl.embed.image_statistics import image_statistics
from eclipse_pl.embedding import ClipSpace
from eclipse_pl.launch.calls import Engine
from tests.helpers.shard_sets import MADE_BY, make_chunk, make_shard_set, make_space, overwrite

SPLITS = {"train": 64, "val": 20, "test": 20}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return with_statistics(make_shard_set(tmp_path / "shards", splits=SPLITS))


def with_statistics(folder: Path) -> Path:
    """Give a synthetic set the statistics of what is stored, as `embed` does."""
    shards = ShardSet(folder)
    statistics = image_statistics(folder, shards.manifest.shards, shards.space.dim)
    replace(shards.space, **statistics._asdict()).save(folder / SPACE_NAME)
    return folder


def vouch(folder: Path) -> None:
    """Make the manifest's checksums those of the files: what only somebody with intent would do."""
    manifest = Manifest.load(folder)
    digests = [hashlib.sha256((folder / shard.name).read_bytes()).hexdigest() for shard in manifest.shards]
    replace(manifest, shards=[replace(s, sha256=d) for s, d in zip(manifest.shards, digests, strict=True)]).save(folder)


def wrong(folder: Path) -> list[Finding]:
    return [finding for finding in verify([str(folder)]) if finding.wrong]


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


def found(folder: Path, check: str) -> str:
    return only([finding for finding in verify([str(folder)]) if finding.check.startswith(check)]).found


def test_a_sound_set(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not wrong(folder)
    assert main(["verify", str(folder)]) == 0
    printed = capsys.readouterr().out
    for row in ("104 pairs (64 train, 20 val, 20 test)", "3 of 3 have the right bytes", "statistics equal the data's", "none"):
        assert row in printed
    assert "wrong" not in printed and "Repair" not in printed


def test_numbers_are_those_of_the_data(folder: Path) -> None:
    shards = ShardSet(folder)
    chunks = [shards.read_chunk(number) for number in range(len(shards.entries))]
    images, texts = (np.concatenate([getattr(c, n) for c in chunks]).astype(np.float32) for n in ("image_embed", "text_embed"))
    lengths = np.concatenate([chunk.lengths for chunk in chunks])
    norms = np.linalg.norm(images, axis=1)
    assert found(folder, "norm of image_embed") == f"mean {norms.mean():.3f}, {norms.min():.3f} ... {norms.max():.3f}"
    assert found(folder, "tokens a caption").startswith(
        f"mean {lengths.mean():.1f}, median {np.median(lengths):.0f}, 3 ... 20; 0.00%"
    )
    cosine = ((images * texts).sum(1) / norms / np.linalg.norm(texts, axis=1)).mean()
    assert found(folder, "cosine").startswith(f"{cosine:.3f} in pairs")


@pytest.mark.long
def test_a_set_of_more_shards_than_files_may_be_open(tmp_path: Path) -> None:
    folder = make_shard_set(tmp_path / "many", pairs=400, chunk=2, records_per_shard=1)
    other = make_shard_set(tmp_path / "other", pairs=200, chunk=2, records_per_shard=1, seed=1)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (160, limits[1]))
    try:
        assert found(folder, "shards").startswith("200 of 200 have the right bytes")
        assert sum(finding.check == "shards" for finding in verify([str(folder), str(other)])) == 2
        rows, _ = captions_of(str(folder), "caption")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert [row.text for row in rows] == [f"caption number {number}" for number in range(400)]


@pytest.mark.parametrize("damage", ["missing", "truncated", "changed", "no tar"])
def test_damaged_shards_are_named_each(folder: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("0000.tar", "0002.tar"):
        content = (folder / name).read_bytes()
        if damage == "missing":
            (folder / name).unlink()
        elif damage == "truncated":
            (folder / name).write_bytes(content[:-512])
        elif damage == "changed":
            (folder / name).write_bytes(content[:2000] + bytes([content[2000] ^ 1]) + content[2001:])
        else:
            (folder / name).write_bytes(b"x" * len(content))
    if damage == "no tar":
        vouch(folder)
    rows = wrong(folder)
    assert [row.check for row in rows] == ["shard 0000.tar", "shard 0002.tar"]
    words = {"missing": "is missing", "truncated": "bytes instead of", "changed": "sha256 differs", "no tar": "is no tar"}
    assert all(words[damage] in row.found and (row.repair, row.folder) == (MADE_BY, str(folder)) for row in rows)
    with pytest.raises(SystemExit) as left:
        main(["verify", str(folder)])
    assert left.value.code == 1
    assert f"Repair it with: {MADE_BY}" in capsys.readouterr().out


def test_members_at_another_place(folder: Path) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    members = manifest["shards"][1]["records"][0]["members"]
    members["image_embed.npy"], members["text_embed.npy"] = members["text_embed.npy"], members["image_embed.npy"]
    path.write_text(json.dumps(manifest))
    row = only(wrong(folder))
    assert "0001.tar" in row.check and "embed.npy at another place" in row.found


def test_a_member_that_is_no_array(folder: Path) -> None:
    overwrite(folder, 2, "text_embed.npy", b"no numpy array here")
    vouch(folder)
    row = only(wrong(folder))
    assert "0000_00002.text_embed.npy" in row.found and "0000.tar" in row.found and "not an array" in row.found


def test_nothing_is_unpickled(folder: Path) -> None:
    overwrite(folder, 0, "image_embed.npy", b"'descr': '|O' ", at=11)
    vouch(folder)
    assert "image_embed.npy" in only(wrong(folder)).found


@pytest.mark.parametrize("member", ["image_embed.npy", "text_embed.npy", "text_states.npy"])
def test_nan_is_found_with_its_pair(folder: Path, member: str) -> None:
    shards = ShardSet(folder)
    chunk = shards.read_chunk(1)
    row = 5 if member != "text_states.npy" else int(chunk.lengths[:5].sum()) + 1
    width = shards.space.text_width if member == "text_states.npy" else shards.space.dim
    overwrite(folder, 1, member, np.full(width, np.nan, np.float16).tobytes(), at=128 + 2 * width * row)
    vouch(folder)
    finding = wrong(folder)[0]
    assert "0000.tar, record 0000_00001" in finding.check and member.removesuffix(".npy") in finding.found
    assert f"(pairs {chunk.keys[5]})" in finding.found


def test_statistics_that_are_not_the_data_s(folder: Path) -> None:
    space = ClipSpace.load(folder / SPACE_NAME)
    replace(space, image_std=space.image_std * 1.1).save(folder / SPACE_NAME)
    row = only(wrong(folder))
    assert "space" in row.check and "wrong: image_std" in row.found and row.repair == MADE_BY
    replace(space, image_covariance=None).save(folder / SPACE_NAME)
    assert "wrong: image_covariance" in only(wrong(folder)).found
    replace(space, zero_image=torch.full_like(space.image_std, torch.nan)).save(folder / SPACE_NAME)
    assert "wrong: zero_image" in only(wrong(folder)).found


def test_a_space_of_another_kind(folder: Path) -> None:
    make_space(name="other").save(folder / SPACE_NAME)
    row = only(wrong(folder))
    assert "another CLIP space" in row.found and row.repair == MADE_BY
    (folder / SPACE_NAME).unlink()
    assert "There is no" in only(wrong(folder)).found


def test_a_normalised_space_of_other_norms(tmp_path: Path) -> None:
    folder = with_statistics(make_shard_set(tmp_path / "shards", splits=SPLITS, space=make_space(normalised=True)))
    assert {row.check for row in wrong(folder)} == {"norm of image_embed", "norm of text_embed"}


def test_a_set_without_token_states(tmp_path: Path) -> None:
    folder = with_statistics(make_shard_set(tmp_path / "shards", tokens=(0, 0)))
    assert not wrong(folder)
    assert "pooled embeddings only" in found(folder, "tokens")


def test_a_damaged_or_newer_manifest(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "manifest.json"
    content = path.read_text()
    path.write_text(content[:100])
    assert "is not JSON" in only(wrong(folder)).found
    path.write_text(content.replace('"schema": 2', '"schema": 3'))
    assert "newer eclipse_pl" in only(wrong(folder)).found
    path.write_text(content.replace('"pairs": 104', '"pairs": 105'))
    assert "do not add up" in only(wrong(folder)).found
    assert main(["verify", str(tmp_path / "nowhere")]) == 2
    assert "There is no folder" in capsys.readouterr().err


def write_pairs(
    folder: Path, splits: dict[str, list[tuple[str, str, int]]], groups: dict[str, list[int]] | None = None
) -> Path:
    """A set of given (key, caption, image number) in each split, of given groups or of those that the embeddings tell."""
    folder.mkdir()
    space = make_space()
    with ShardWriter(folder / "0000.tar") as writer:
        for split, rows in splits.items():
            made = make_chunk(np.random.default_rng(0), len(rows), space.dim, space.text_width, negatives=False)
            images = np.stack([np.random.default_rng(number).normal(size=space.dim) for _, _, number in rows])
            keys, captions = [key for key, _, _ in rows], [caption for _, caption, _ in rows]
            group = None if groups is None else np.array(groups[split])
            writer.write(replace(made, image_embed=images, captions=captions, keys=keys, group=group), split)
        entries = [writer.close()]
    space.save(folder / SPACE_NAME)
    Manifest(space.identity, MADE_BY, entries).save(folder)
    return with_statistics(folder)


def test_overlap_between_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_pairs(
        tmp_path / "set",
        {
            "train": [("0", "a dog", 0), ("1", "a cat", 1), ("2", "a third", 2), ("3", "a fourth", 3)],
            "val": [("4", "A  Dog", 4), ("1", "another cat", 1), ("2", "another third", 9)],
            "test": [("5", "a dog", 5), ("6", "a sixth", 6)],
        },
    )
    shared = overlap({"set": ShardSet(folder)})
    assert shared.captions == {("train", "test"): 1, ("val", "test"): 1}
    assert shared.images == {("train", "val"): 1} and shared.shared_keys == 1
    rows = wrong(folder)
    assert len(rows) == 3 and all(not row.repair for row in rows)
    with pytest.raises(SystemExit):
        main(["verify", str(folder)])
    printed = capsys.readouterr().out
    assert "'a dog'" in printed and '"group" in their json' in printed and "Repair" not in printed


def test_one_image_under_two_keys(tmp_path: Path) -> None:
    splits = {
        "train": [("0", "a dog", 0), ("1", "a cat", 1), ("2", "a third", 2)],
        "val": [("3", "another cat", 1), ("4", "a fourth", 4)],
    }
    apart = {"train": [0, 1, 2], "val": [3, 4]}  # one image in two files
    rows = {row.check: row.found for row in verify([str(write_pairs(tmp_path / "set", splits, apart))]) if row.wrong}
    assert rows == {"images in two splits": "1 in train and in val; first '1'"}
    splits["val"][0] = ("3", "another cat", 3)
    folder = write_pairs(tmp_path / "groups", splits, groups={"train": [0, 1, 2], "val": [2, 3]})
    assert overlap({"set": ShardSet(folder)}).images == {("train", "val"): 1}, "one image, embedded in two batches"


def test_zero_vectors_are_marked(tmp_path: Path) -> None:
    splits = {"train": [("0", "a dog", 0), ("1", "a cat", 1)], "val": [("2", "a fox", 2), ("3", "a wolf", 3)]}
    folder = write_pairs(tmp_path / "set", splits)
    for record in (0, 1):
        overwrite(folder, record, "image_embed.npy", bytes(16), at=128 + 16)
    vouch(folder)
    rows = {row.check: row.found for row in wrong(with_statistics(folder))}
    assert rows == {"zero vectors": "2 pairs have an embedding that is zero, which has no cosine; first 1"}


def test_the_damaged_record_is_named(folder: Path) -> None:
    overwrite(folder, 1, "text_embed.npy", b"\x01", at=140)
    rows = wrong(folder)
    assert rows[0].check == "shard 0000.tar" and rows[0].found.endswith("(sha256 differs); damaged: 0000_00001")
    content = bytearray((folder / "0001.tar").read_bytes())
    content[-1] ^= 1
    (folder / "0001.tar").write_bytes(content)
    assert wrong(folder)[1].found.endswith("(sha256 differs); its records are whole")


def test_overlap_between_sets(tmp_path: Path) -> None:
    train = write_pairs(tmp_path / "one", {"train": [("0", "a dog", 0), ("1", "a cat", 1)]})
    test = write_pairs(tmp_path / "two", {"test": [("0", "a wolf", 0), ("1", "a CAT", 7)], "train": [("9", "a fox", 9)]})
    assert not wrong(train) and not wrong(test)
    rows = {row.check: row.found for row in verify([str(train), str(test)]) if row.wrong}
    assert rows == {
        "captions in two splits": f"1 in {train} train and in {test} test; first 'a cat'",
        "images in two splits": f"1 in {train} train and in {test} test; first '0'",
    }
    same = write_pairs(tmp_path / "three", {"train": [("0", "a dog", 0)]})
    assert not any(row.wrong for row in verify([str(train), str(same)])), "two sets may both train on a pair"


def test_skipped_and_cut_are_reported(tmp_path: Path, folder: Path) -> None:
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    manifest["shards"][0] |= {
        "cut": 3,
        "skipped": [{"key": "k7", "reason": "no caption"}, {"key": "k8", "reason": "no image"}],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert found(folder, "skipped") == "2 pairs of the source (1: no caption, 1: no image); first k7"
    assert found(folder, "cut").startswith("3 captions") and not wrong(folder)


@pytest.mark.processes
def test_several_processes_find_what_one_finds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overwrite(folder, 1, "text_embed.npy", b"other bytes", 300)
    alone = verify([str(folder)])
    assert any(finding.check.startswith("shard 0") and finding.wrong for finding in alone)
    assert verify([str(folder)], Engine("local", 2)) == alone
    assert main(["verify", str(folder), "--jobs", "0"]) == 2 and "--jobs is 0" in capsys.readouterr().err
    assert main(["verify", str(folder), "--ray-address", "head:1"]) == 2
    assert "--ray-address has no effect with --engine local" in capsys.readouterr().err
    assert main(["verify", str(folder), "--engine", "ray", "--jobs", "2"]) == 2
    assert "--jobs has no effect with --engine ray" in capsys.readouterr().err
