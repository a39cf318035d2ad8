from __future__ import annotations

import io
import json
import pickle
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eclipse_pl.data import shard_files
from eclipse_pl.data.chunk import MEMBERS, Chunk, image_numbers
from eclipse_pl.data.manifest import Manifest
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.embed.folder import write_space
from eclipse_pl.embedding import ClipSpace
from tests.helpers.shard_sets import MADE_BY, make_chunk, make_shard_set, make_space, overwrite, write_chunks


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shard_set(tmp_path_factory.mktemp("set") / "shards", splits={"train": 70, "val": 20, "test": 11})


def test_read_chunk_returns_what_was_written(tmp_path: Path) -> None:
    folder = make_shard_set(tmp_path / "s", pairs=40, chunk=16, seed=3)
    shards, rng = ShardSet(folder), np.random.default_rng(3)
    for record, start in enumerate(range(0, 40, 16)):
        written = make_chunk(rng, min(16, 40 - start), 8, 6, start)
        read = shards.read_chunk(record)
        for name in ("image_embed", "text_embed", "text_states", "lengths", "negative_embed"):
            np.testing.assert_array_equal(getattr(read, name), getattr(written, name).astype(getattr(read, name).dtype))
        assert (read.captions, read.keys, read.subsets) == (written.captions, written.keys, written.subsets)
        assert not read.image_embed.flags.writeable


def random_chunk(seed: int) -> Chunk:
    """Any pairs that a record can hold: images shared or not, with and without the optional arrays."""
    rng = np.random.default_rng(seed)
    flags = rng.integers(0, 2, 7).astype(bool)
    tokens = (1, 4) if flags[0] else (0, 0)
    made = make_chunk(rng, int(rng.integers(1, 10)), 8, 6, tokens=tokens, negatives=flags[1], negative_texts=flags[6])
    count = len(made)
    if flags[2]:
        images = rng.integers(0, rng.integers(1, count + 1), count)
        made.image_embed = made.image_embed[images]
        made.group = images + 2**40 if flags[3] else None
        made.image_rows = np.unique(images, return_inverse=True)[1]
    if flags[4]:
        made.control_embed = np.where(rng.random((count, 1)) < 0.5, np.nan, made.text_embed)
    if flags[5]:
        made.subject_counts = np.where(made.lengths > 0, rng.integers(0, 3, count), 0)
        ends = rng.integers(1, np.repeat(made.lengths, made.subject_counts) + 1)
        made.subject_spans = np.stack([rng.integers(0, ends), ends], 1) if len(ends) else np.zeros((0, 2), int)
        made.subject_embed = rng.normal(size=(len(ends), 8))
    return made


@pytest.mark.long
@given(st.lists(st.integers(0, 2**32), min_size=1, max_size=4), st.data())
def test_every_chunk_comes_back_as_it_was(seeds: list[int], data: st.DataObject) -> None:
    written = [random_chunk(seed) for seed in seeds]
    with tempfile.TemporaryDirectory() as folder:
        shards = ShardSet(write_chunks(Path(folder), written), check="record")
        for number, chunk in enumerate(written):
            read = shards.read_chunk(number)
            for name, member in MEMBERS.items():
                expected = getattr(chunk, name)
                if name == "group" and expected is None:
                    expected = image_numbers(chunk.image_embed)
                np.testing.assert_array_equal(
                    getattr(read, name), expected if expected is None else expected.astype(member.dtype)
                )
            assert (read.captions, read.keys, read.subsets) == (chunk.captions, chunk.keys, chunk.subsets)
            stored = 2 * 8 * len(set(chunk.image_rows if chunk.image_rows is not None else range(len(chunk))))
            assert shards.entries[number].members["image_embed.npy"][1] == stored + 128, "an image is stored once"
        rows = np.array(data.draw(st.lists(st.integers(0, len(shards) - 1), min_size=1, max_size=20)))
        records = np.searchsorted(shards.record_starts, rows, side="right") - 1
        batch = shards.gather(records, rows - shards.record_starts[records])
        every = [shards.read_chunk(number) for number in range(len(written))]
        np.testing.assert_array_equal(batch.image_embed, np.concatenate([chunk.image_embed for chunk in every])[rows])
        np.testing.assert_array_equal(batch.group, np.concatenate([chunk.group for chunk in every])[rows])


def test_splits_are_whole_records(folder: Path) -> None:
    shards = ShardSet(folder)
    assert shards.manifest.splits == {"train": 70, "val": 20, "test": 11}
    assert sum(len(shards.records(split)) for split in ("train", "val", "test")) == len(shards.entries)
    assert shards.record_pairs[shards.records("val")].sum() == 20
    assert len(shards) == 101


@pytest.mark.long
@given(st.data())
def test_gather_is_the_rows_asked_for(folder: Path, data: st.DataObject) -> None:
    shards = ShardSet(folder)
    numbers = np.array(data.draw(st.lists(st.integers(0, len(shards) - 1), min_size=1, max_size=40)))
    records = np.searchsorted(shards.record_starts, numbers, side="right") - 1
    rows = numbers - shards.record_starts[records]
    memory = data.draw(st.sampled_from([None, np.empty(100_000, np.float16), np.empty(10, np.float16)]))
    batch = shards.gather(records, rows, with_captions=True, memory=memory)
    assert batch.index.tolist() == numbers.tolist()
    assert batch.group is not None and len(set(batch.group.tolist())) == len(set(numbers.tolist()))
    states = batch.text.text_states.split(batch.text.lengths.tolist())
    for place, (record, row) in enumerate(zip(records, rows, strict=True)):
        chunk = shards.read_chunk(int(record))
        ends = np.cumsum(chunk.lengths)
        np.testing.assert_array_equal(batch.image_embed[place], chunk.image_embed[row])
        np.testing.assert_array_equal(batch.text.text_embed[place], chunk.text_embed[row])
        np.testing.assert_array_equal(batch.negative_embed[place], chunk.negative_embed[row])
        np.testing.assert_array_equal(states[place], chunk.text_states[ends[row] - chunk.lengths[row] : ends[row]])
        assert batch.captions[place] == chunk.captions[row] == f"caption number {numbers[place]}"
        assert (batch.keys[place], batch.subsets[place]) == (chunk.keys[row], chunk.subsets[row])
    assert batch.image_embed.dtype == batch.text.text_states.dtype == torch.float16


def test_training_batches_carry_embeddings_alone(folder: Path) -> None:
    batch = ShardSet(folder).gather(np.array([0, 1]), np.array([3, 4]))
    assert (batch.captions, batch.keys, batch.subsets, batch.negative_embed) == (None, None, None, None)


def test_negative_captions_are_those_of_the_split(tmp_path: Path) -> None:
    plan = {"train": 40, "val": 20}
    shards = ShardSet(make_shard_set(tmp_path, splits=plan, negative_texts=["train"]))
    batch = shards.gather(np.array([0, 1, 1]), np.array([3, 0, 4]))
    stored = [shards.read_chunk(record).negative_text_embed[row] for record, row in ((0, 3), (1, 0), (1, 4))]  # type: ignore[index]
    np.testing.assert_array_equal(batch.negative_text_embed, np.stack(stored))
    assert batch.negative_text_embed.isnan().any(1).tolist() == [False, False, True]  # type: ignore[union-attr]
    val = int(shards.records("val")[0])
    assert shards.gather(np.array([val]), np.array([0]), with_captions=True).negative_text_embed is None


def test_a_record_without_negative_captions_gives_nan(tmp_path: Path) -> None:
    """All ranks gather the same tensors, whatever records their batches come from."""
    rng = np.random.default_rng(0)
    chunks = [make_chunk(rng, 5, 8, 6, negative_texts=some) for some in (True, False)]
    shards = ShardSet(write_chunks(tmp_path, chunks))
    for record in range(2):
        found = shards.gather(np.array([record]), np.array([0])).negative_text_embed
        assert found is not None and bool(found.isnan().all()) == (record == 1)


@pytest.mark.parametrize("name", ["negative_embed", "negative_text_embed", "control_embed"])
def test_a_row_is_whole_or_none(tmp_path: Path, name: str) -> None:
    chunk = make_chunk(np.random.default_rng(0), 5, 8, 6)
    for broken in (np.inf, np.nan, 1e9):
        array = np.zeros((5, 8))
        array[2, 3] = broken
        with pytest.raises(ValueError, match=rf"cannot be written: {name} has a row that is neither finite nor all NaN"):
            write_chunks(tmp_path, [replace(chunk, **{name: array})])


def test_rows_outside_their_record(folder: Path) -> None:
    for row in (-1, 16):
        with pytest.raises(IndexError, match=r"outside its record"):
            ShardSet(folder).gather(np.array([0]), np.array([row]))


def test_without_token_states(tmp_path: Path) -> None:
    shards = ShardSet(make_shard_set(tmp_path / "s", pairs=20, tokens=(0, 0)))
    batch = shards.gather(np.array([0, 1, 1]), np.array([1, 0, 3]), with_captions=True)
    assert batch.text.text_states.shape == (0, 6) and batch.text.lengths.tolist() == [0, 0, 0]
    assert shards.read_chunk(0).text_states.shape == (0, 6)


def test_few_files_stay_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = np.arange(101)
    whole = ShardSet(folder)
    records = np.searchsorted(whole.record_starts, numbers, side="right") - 1
    rows = numbers - whole.record_starts[records]
    monkeypatch.setattr(shard_files, "OPEN_SHARDS", 1)
    monkeypatch.setattr(shard_files, "OPEN_RECORDS", 1)
    few = ShardSet(folder)
    assert torch.equal(few.gather(records, rows).image_embed, whole.gather(records, rows).image_embed)
    assert (len(few._files._maps), len(few._records)) == (1, 1)


def test_pickles_without_its_maps(folder: Path) -> None:
    shards = ShardSet(folder)
    shards.read_chunk(0)
    copy = pickle.loads(pickle.dumps(shards))
    assert len(pickle.dumps(shards)) < 20_000
    np.testing.assert_array_equal(copy.read_chunk(0).image_embed, shards.read_chunk(0).image_embed)


# ---- what bad input gets


@pytest.fixture()
def broken(tmp_path: Path) -> Path:
    return make_shard_set(tmp_path / "s", pairs=32)


def test_missing_shard(broken: Path) -> None:
    (broken / "0000.tar").unlink()
    with pytest.raises(ValueError, match=f"0000.tar is missing. Repair it with `{MADE_BY[:20]}"):
        ShardSet(broken)


def test_truncated_shard(broken: Path) -> None:
    with open(broken / "0000.tar", "r+b") as file:
        file.truncate(4000)
    with pytest.raises(ValueError, match=r"0000.tar has 4000 bytes instead of .* Repair it with `python -m data_prep"):
        ShardSet(broken)


def test_shard_that_shrinks_before_it_is_read(broken: Path) -> None:
    shards = ShardSet(broken)
    with open(broken / "0000.tar", "r+b") as file:
        file.truncate(4000)
    with pytest.raises(ValueError, match=r"has 4000 bytes"):
        shards.read_chunk(0)


def test_tampered_shard(broken: Path) -> None:
    overwrite(broken, 1, "image_embed.npy", b"\x01", at=140)
    ShardSet(broken)
    with pytest.raises(ValueError, match=r"0000.tar has other bytes than were written .sha256 differs.. Repair it"):
        ShardSet(broken, check="sha256")


def test_a_damaged_record_is_named_when_it_is_first_read(broken: Path) -> None:
    overwrite(broken, 1, "image_embed.npy", b"\x01", at=140)
    shards = ShardSet(broken, check="record")
    shards.read_chunk(0)
    for read in (shards, pickle.loads(pickle.dumps(shards))):
        with pytest.raises(ValueError, match=r"The record 0000_00001 of the shard .*0000.tar has other bytes.*Repair it with"):
            read.gather(np.array([0, 1]), np.array([3, 4]))
    ShardSet(broken).read_chunk(1)


def test_members_that_nothing_reads_are_refused(broken: Path) -> None:
    content = json.loads((broken / "manifest.json").read_text())
    content["shards"][0]["records"][1]["members"]["colours.npy"] = [512, 100]
    (broken / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"hold colours.npy, which is unknown: upgrade eclipse_pl, or make the set again"):
        ShardSet(broken)


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(broken: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb(broken / "unpickled")], dtype=object), allow_pickle=True)
    overwrite(broken, 1, "image_embed.npy", buffer.getvalue())
    with pytest.raises(ValueError, match=r"0000_00001.image_embed.npy of the shard .*0000.tar holds object .*Repair it"):
        ShardSet(broken).read_chunk(1)
    assert not (broken / "unpickled").exists()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("member", "content", "sentence"),
    [
        ("image_embed.npy", b"not an array at all", "is not an array"),
        ("image_embed.npy", npy(np.zeros((16, 8), np.float32))[:128], "holds float32 of shape .16, 8. instead of float16"),
        ("text_states.npy", npy(np.zeros((3, 6), np.float16))[:128], "holds float16 of shape .3, 6."),
        ("lengths.npy", npy(np.full(16, -1, np.int16)), "does not add up"),
        ("captions.json", b"[1, 2", "is no list of captions"),
        ("captions.json", json.dumps({"captions": ["a"], "keys": ["b"]}).encode().ljust(400), "is no list|does not have 16"),
    ],
)
def test_damaged_members(broken: Path, member: str, content: bytes, sentence: str) -> None:
    overwrite(broken, 0, member, content)
    with pytest.raises(ValueError, match=f"0000_00000.{member} of the shard .*0000.tar .*({sentence}).* Repair it with"):
        ShardSet(broken).read_chunk(0)


def edit_manifest(folder: Path, **changes: object) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**content, **changes}))


def test_newer_schema(broken: Path) -> None:
    edit_manifest(broken, schema=3)
    with pytest.raises(ValueError, match=r"written by a newer eclipse_pl .schema 3.*Upgrade"):
        ShardSet(broken)


def test_older_schema(broken: Path) -> None:
    edit_manifest(broken, schema=1)
    with pytest.raises(
        ValueError, match=rf"older eclipse_pl .schema 1; .*Make the set again in another folder: `{MADE_BY[:20]}"
    ):
        ShardSet(broken)


@pytest.mark.parametrize("changes", [{"pairs": 1}, {"shards": [{}]}, {"shards": 3}, {"schema": None}, {"space": 7}])
def test_damaged_manifest(broken: Path, changes: dict[str, object]) -> None:
    edit_manifest(broken, **changes)
    with pytest.raises(ValueError, match=r"is damaged|is no manifest"):
        ShardSet(broken)


def test_records_that_do_not_add_up_to_their_shard(broken: Path) -> None:
    manifest = json.loads((broken / "manifest.json").read_text())
    manifest["shards"][0]["pairs"] += 5
    manifest["pairs"] += 5
    (broken / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=rf"records of {manifest['shards'][0]['name']} do not add up.*Repair it with"):
        ShardSet(broken)


def test_manifest_that_is_not_json(broken: Path) -> None:
    (broken / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"is not JSON"):
        ShardSet(broken)


@pytest.mark.parametrize("filled", [b"", b"\0" * 4096])
def test_manifest_that_was_cut(broken: Path, filled: bytes) -> None:
    """A download or a disk that stopped half-way, whatever the place; some file systems fill the rest with zeros."""
    path = broken / "manifest.json"
    whole = path.read_bytes().rstrip()
    for stop in (*range(0, len(whole), 97), len(whole) - 1):
        path.write_bytes(whole[:stop] + filled)
        with pytest.raises(ValueError, match=r"manifest.json is not JSON .*Run the `data_prep` command that made") as error:
            ShardSet(broken)
        assert "\n" not in str(error.value)


def test_space_of_other_bytes(broken: Path) -> None:
    """One bit of a statistic is no other identity, and would change a prior silently."""
    manifest, space = Manifest.load(broken), ClipSpace.load(broken / "space.safetensors")
    replace(manifest, space_sha256=write_space(broken, space)).save(broken)
    assert ShardSet(broken).manifest == manifest and ShardSet(broken).manifest.digest == manifest.digest
    content = bytearray((broken / "space.safetensors").read_bytes())
    content[-1] ^= 1
    (broken / "space.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"space.safetensors has other bytes than were written .sha256 differs."):
        ShardSet(broken)


def test_no_set_at_all(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"There is no .*manifest.json.*data_prep embed"):
        ShardSet(tmp_path)


def test_manifest_of_another_space(broken: Path) -> None:
    make_space(8, 6, name="other").save(broken / "space.safetensors")
    with pytest.raises(ValueError, match=r"describes another CLIP space than the manifest"):
        ShardSet(broken)


def test_manifest_round_trip(broken: Path, tmp_path: Path) -> None:
    manifest = Manifest.load(broken)
    manifest.save(tmp_path)
    assert Manifest.load(tmp_path) == manifest
    assert (tmp_path / "manifest.json").read_bytes() == (broken / "manifest.json").read_bytes()
