from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep import import_embeddings as importing
from data_prep.__main__ import main
from data_prep.import_embeddings import import_embeddings, split_whole
from eclipse_pl.data.chunk import Chunk
from eclipse_pl.data.manifest import Manifest
from eclipse_pl.data.shard_set import ShardSet
from tests.helpers.real_data import RealData

Error = Callable[..., str]


@pytest.fixture
def error(capsys: pytest.CaptureFixture[str]) -> Error:
    """Run the command, expect one sentence and exit code 2, return the sentence."""

    def run(*args: str) -> str:
        assert main(["import-embeddings", *args]) == 2
        told = capsys.readouterr().err
        assert told.startswith("error: ") and told.count("\n") == 1
        return told

    return run


def unit(array: np.ndarray) -> np.ndarray:
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def write_npy(folder: Path, pairs: int = 30, dim: int = 8, **changed: Any) -> dict[str, str]:
    """Raw embeddings of numbered captions; the options of the command that reads them."""
    rng = np.random.default_rng(0)
    arrays = {"image_embeds": rng.normal(size=(pairs, dim)), "text_embeds": rng.normal(size=(pairs, dim))} | changed
    captions = arrays.pop("captions", [f"caption {number}" for number in range(pairs)])
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=True)
    (folder / "captions.txt").write_text("\n".join(captions) + "\n")
    return {name: str(folder / f"{name}.npy") for name in arrays} | {"captions": str(folder / "captions.txt")}


def as_args(options: dict[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]


def read(folder: Path) -> dict[str, dict[str, Any]]:
    shards = ShardSet(folder, check="sha256")
    pairs: dict[str, dict[str, Any]] = {}
    for number, entry in enumerate(shards.entries):
        chunk = shards.read_chunk(number)
        assert chunk.text_states.shape == (0, shards.space.dim) and not chunk.lengths.any()
        for row, key in enumerate(chunk.keys):
            told = (entry.split, chunk.captions[row], chunk.image_embed[row], chunk.text_embed[row])
            pairs[key] = dict(zip(("split", "caption", "image", "text"), told, strict=True))
    return pairs


def test_500_pairs_of_coco(tmp_path: Path, real_data: RealData) -> None:
    file = real_data("coco500/coco500_clip_vitb16.npz")
    args = f"--arrays {file} --out {tmp_path}/set --val 100 --name ViT-B-16/openai --seed 3"
    assert main(["import-embeddings", *args.split()]) == 0
    shards = ShardSet(tmp_path / "set")
    assert shards.manifest.splits == {"train": 400, "val": 100} and shards.manifest.tokens == 0
    space = shards.space
    assert (space.name, space.dim, space.text_width, space.normalised) == ("ViT-B-16/openai", 512, 512, True)
    assert space.empty_embed is None and space.zero_image is None
    pairs = read(tmp_path / "set")
    with np.load(file) as arrays:
        assert set(pairs) == {str(key) for key in arrays["image_id"]}
        for row in (0, 99, 499):
            pair = pairs[str(arrays["image_id"][row])]
            assert pair["caption"] == arrays["caption"][row].strip()
            np.testing.assert_allclose(pair["image"], arrays["image_embed"][row], atol=2e-4)
            np.testing.assert_allclose(pair["text"], arrays["text_embed"][row], atol=2e-4)
    train = np.stack([pair["image"] for pair in pairs.values() if pair["split"] == "train"]).astype(np.float64)
    np.testing.assert_allclose(space.image_mean, train.mean(0), atol=1e-6)
    assert main(["verify", f"{tmp_path}/set"]) == 0


def test_clip_retrieval_folder(tmp_path: Path, real_data: RealData) -> None:
    pytest.importorskip("pyarrow")
    sample = real_data("clip_retrieval_sample/embeddings")
    assert main(["import-embeddings", "--clip-retrieval", str(sample), "--out", f"{tmp_path}/set", "--test", "2"]) == 0
    pairs = read(tmp_path / "set")
    assert len(pairs) == 9 and [pair["split"] for pair in pairs.values()].count("test") == 2
    assert pairs["/content/catalog/img5.jpg"]["caption"] == "a plaid shirt with a hoodie"
    images = np.load(sample / "img_emb" / "img_emb_0.npy")
    np.testing.assert_array_equal(pairs["/content/catalog/img5.jpg"]["image"], images[4])
    space = ShardSet(tmp_path / "set").space
    assert space.normalised and space.name == "embeddings"


def test_clip_retrieval_in_pieces(tmp_path: Path, error: Error) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    rng = np.random.default_rng(0)
    for folder in ("img_emb", "text_emb", "metadata"):
        (tmp_path / "cr" / folder).mkdir(parents=True)
    pieces = {"00": 5, "01": 7, "02": 3}  # clip-retrieval pads the numbers of a large set with zeros
    for number, rows in pieces.items():
        for folder in ("img_emb", "text_emb"):
            np.save(tmp_path / "cr" / folder / f"{folder}_{number}.npy", rng.normal(size=(rows, 4)))
        captions = [f"caption {number}-{row}" for row in range(rows)]
        pandas.DataFrame({"caption": captions}).to_parquet(tmp_path / "cr" / "metadata" / f"metadata_{number}.parquet")
    assert main(["import-embeddings", "--clip-retrieval", f"{tmp_path}/cr", "--out", f"{tmp_path}/set", "--chunk", "4"]) == 0
    pairs = read(tmp_path / "set")
    assert [pair["caption"] for pair in pairs.values()] == [
        f"caption {n}-{row}" for n, rows in pieces.items() for row in range(rows)
    ]
    last = np.load(tmp_path / "cr" / "img_emb" / "img_emb_02.npy").astype(np.float16)
    np.testing.assert_array_equal(np.stack([pairs[str(row)]["image"] for row in (12, 13, 14)]), last)
    (tmp_path / "cr" / "metadata" / "metadata_01.parquet").unlink()
    assert "Part 1 of" in error("--clip-retrieval", f"{tmp_path}/cr", "--out", f"{tmp_path}/other")
    assert "no folder of clip-retrieval" in error("--clip-retrieval", str(tmp_path), "--out", f"{tmp_path}/other")


def test_npy_pairs(tmp_path: Path) -> None:
    options = write_npy(tmp_path / "npy")
    np.save(tmp_path / "npy" / "keys.npy", np.array([f"key {number}" for number in range(30)]))
    args = ["--keys", f"{tmp_path}/npy/keys.npy", "--val", "4", "--test", "5", "--chunk", "8", "--encoder", "someone's CLIP"]
    assert main(["import-embeddings", *as_args(options), *args, "--out", f"{tmp_path}/set"]) == 0
    pairs = read(tmp_path / "set")
    images = np.load(options["image_embeds"]).astype(np.float16)
    for number in range(30):
        assert pairs[f"key {number}"]["caption"] == f"caption {number}"
        np.testing.assert_array_equal(pairs[f"key {number}"]["image"], images[number])
    shards = ShardSet(tmp_path / "set")
    assert shards.manifest.splits == {"train": 21, "val": 4, "test": 5}
    assert [entry.pairs for entry in shards.entries] == [8, 8, 5, 4, 5]
    assert shards.space.encoder == "someone's CLIP" and not shards.space.normalised


def test_captions_as_json(tmp_path: Path) -> None:
    options = write_npy(tmp_path / "npy", pairs=3)
    (tmp_path / "c.json").write_text(json.dumps(["one", "two\nlines", "three"]))
    import_embeddings(str(tmp_path / "set"), **{**options, "captions": str(tmp_path / "c.json")})
    assert [pair["caption"] for pair in read(tmp_path / "set").values()] == ["one", "two\nlines", "three"]


def test_what_is_skipped(tmp_path: Path) -> None:
    image = np.random.default_rng(1).normal(size=(6, 4))
    image[1, 2], image[2, 0] = np.nan, 1e6
    text = np.random.default_rng(2).normal(size=(6, 4))
    text[4, 0] = -np.inf
    options = write_npy(tmp_path / "npy", image_embeds=image, text_embeds=text, captions=["a", "b", "c", " ", "e", "f"])
    manifest = import_embeddings(str(tmp_path / "set"), **options)
    assert {pair.key: pair.reason for pair in manifest.shards[0].skipped} == {
        "1": "its image embedding is not finite in float16",
        "2": "its image embedding is not finite in float16",
        "3": "no caption",
        "4": "its text embedding is not finite in float16",
    }
    assert set(read(tmp_path / "set")) == {"0", "5"}


def test_normalised_is_found_out(tmp_path: Path, error: Error) -> None:
    raw = np.random.default_rng(1).normal(size=(6, 4)) + 3
    for name, dtype in (("f4", np.float32), ("f2", np.float16)):
        both = {"image_embeds": unit(raw).astype(dtype), "text_embeds": unit(raw[::-1]).astype(dtype)}
        import_embeddings(str(tmp_path / name), **write_npy(tmp_path / f"{name}_npy", pairs=6, **both))
        assert ShardSet(tmp_path / name).space.normalised
    mixed = write_npy(tmp_path / "mixed", pairs=6, image_embeds=unit(raw), text_embeds=raw)
    assert "image embeddings are normalised and the text embeddings are not" in error(
        *as_args(mixed), "--out", f"{tmp_path}/set"
    )


def test_bad_input(tmp_path: Path, error: Error) -> None:
    out = ["--out", f"{tmp_path}/set"]
    good = write_npy(tmp_path / "good")
    assert "Give the embeddings in one way" in error(*out)
    assert "in one way" in error(*as_args(good), "--arrays", "x.npz", *out)
    assert "--text-embeds is missing" in error("--image-embeds", "a", "--captions", "c", *out)
    assert "There is no" in error(*as_args(good | {"text_embeds": f"{tmp_path}/none.npy"}), *out)
    assert "There is no" in error(*as_args(good | {"captions": f"{tmp_path}/none.txt"}), *out)
    few = write_npy(tmp_path / "few", captions=["one", "two"])
    assert "do not belong together: 30 image embeddings, 30 text embeddings, 2 captions, 30 keys" in error(*as_args(few), *out)
    pickled = write_npy(tmp_path / "pickled", image_embeds=np.array([{"a": 1}] * 30, dtype=object))
    assert "without unpickling" in error(*as_args(pickled), *out)
    flat = write_npy(tmp_path / "flat", image_embeds=np.zeros(30))
    assert "must be floats, a row a pair" in error(*as_args(flat), *out)
    wide = write_npy(tmp_path / "wide", image_embeds=np.ones((30, 9)))
    assert "(30, 9)" in error(*as_args(wide), *out)
    assert "val=29 and test=2 are more pairs than the 30 there are" in error(
        *as_args(good), *out, "--val", "29", "--test", "2"
    )
    assert "chunk=0" in error(*as_args(good), *out, "--chunk", "0")
    assert error(*as_args(good), *out, "--seed", "-1") == "error: --seed is -1; it must be 0 or more.\n"
    np.savez(tmp_path / "a.npz", image_embed=np.ones((2, 3)), text_embed=np.ones((2, 3)), caption=np.array(["a", "b"]))
    assert "no array 'image_id'; it has image_embed, text_embed, caption" in error("--arrays", f"{tmp_path}/a.npz", *out)
    np.savez(
        tmp_path / "b.npz",
        image_embed=np.ones((2, 3)),
        text_embed=np.ones((2, 3)),
        caption=np.array(["a", b"b"], dtype=object),
    )
    assert "without unpickling" in error("--arrays", f"{tmp_path}/b.npz", "--names.key", "null", *out)
    assert "not an npz" in error("--arrays", good["image_embeds"], *out)
    assert not (tmp_path / "set" / "manifest.json").exists()


def test_npz_of_other_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", img=np.ones((2, 3)) * 2, txt=np.ones((2, 3)), words=np.array(["a", "b"]))
    names = ["--names.image_embed", "img", "--names.text-embed", "txt", "--names.caption", "words", "--names.key", "null"]
    assert main(["import-embeddings", "--arrays", f"{tmp_path}/a.npz", *names, "--out", f"{tmp_path}/set"]) == 0
    assert list(read(tmp_path / "set")) == ["0", "1"]


def test_run_again_it_repairs_and_mixes_nothing(tmp_path: Path, error: Error) -> None:
    args = [*as_args(write_npy(tmp_path / "npy")), "--out", f"{tmp_path}/set"]
    assert main(["import-embeddings", *args]) == 0
    whole = {path.name: path.read_bytes() for path in (tmp_path / "set").iterdir()}
    (tmp_path / "set" / "0000.tar").write_bytes(b"damaged")
    (tmp_path / "set" / "manifest.json").unlink()
    assert main(["import-embeddings", *args]) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "set").iterdir()} == whole
    assert "shards with other settings" in error(*args, "--val", "3")
    assert {path.name: path.read_bytes() for path in (tmp_path / "set").iterdir()} == whole


def test_a_run_that_is_stopped_between_other_bytes_leaves_no_finished_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = [*as_args(write_npy(tmp_path / "npy", pairs=8)), "--val", "4", "--chunk", "65536", "--out", f"{tmp_path}/set"]
    assert main(["import-embeddings", *args]) == 0
    assert len(Manifest.load(tmp_path / "set").shards) == 2
    write_npy(tmp_path / "npy", pairs=8, image_embeds=np.ones((8, 8)) * np.arange(1, 9)[:, None])
    chunk_of, made = importing._chunk, []

    def stopped(*rows: Any) -> Chunk:
        made.append(rows)
        if len(made) == 2:
            raise KeyboardInterrupt
        return chunk_of(*rows)

    monkeypatch.setattr(importing, "_chunk", stopped)
    assert main(["import-embeddings", *args]) == 130
    with pytest.raises(ValueError, match=r"^There is no .*manifest\.json"):
        ShardSet(tmp_path / "set")
    assert main(["import-embeddings", *args]) == 0
    assert main(["import-embeddings", *args[:-1], f"{tmp_path}/other"]) == 0
    shards, expected = (read(tmp_path / name) for name in ("set", "other"))
    assert shards.keys() == expected.keys()
    assert all(np.array_equal(shards[key]["image"], expected[key]["image"]) for key in expected)
    assert not list((tmp_path / "set").glob("*.tar.json"))


@given(st.lists(st.integers(0, 12), max_size=60), st.integers(0, 8), st.integers(0, 8), st.integers(0, 3))
def test_whole_groups_near_the_number_asked_for(together: list[int], val: int, test: int, seed: int) -> None:
    numbers = np.array(together, dtype=np.int64)
    if val + test > len(together):
        with pytest.raises(ValueError, match="more pairs than"):
            split_whole(numbers, val, test, seed)
        return
    splits = split_whole(numbers, val, test, seed).tolist()
    sizes = {number: together.count(number) for number in together}
    assert len(set(zip(together, splits, strict=True))) == len(sizes), "one group lies in one split"
    training = {number for number, split in zip(together, splits, strict=True) if split == "train"}
    for split, asked in (("val", val), ("test", test)):
        found = splits.count(split)
        assert found <= asked or len({n for n, s in zip(together, splits, strict=True) if s == split}) == 1
        assert found or not asked or len(training) == 1, "empty only where training would be left without a group"
        if set(sizes.values()) == {1}:
            assert found == asked or (split == "test" and not training)
    assert splits == split_whole(numbers, val, test, seed).tolist()


@pytest.mark.parametrize(("asked", "found"), [("0.1", 3), ("0.01", 1), ("0.0", 0), ("3", 3)])
def test_a_number_or_a_fraction_of_the_pairs(tmp_path: Path, asked: str, found: int) -> None:
    args = as_args(write_npy(tmp_path / "npy"))
    assert main(["import-embeddings", *args, "--val", asked, "--out", f"{tmp_path}/set"]) == 0
    assert ShardSet(tmp_path / "set").manifest.splits.get("val", 0) == found


@pytest.mark.parametrize("asked", ["1.0", "2.5", "-0.1", ".inf", ".nan"])
def test_what_is_neither_a_number_nor_a_fraction(tmp_path: Path, error: Error, asked: str) -> None:
    told = error(*as_args(write_npy(tmp_path / "npy")), "--test", asked, "--out", f"{tmp_path}/set")
    assert "test" in told and ("or a fraction of them below 1" in told or "at least 0" in told)


def test_seeds_draw_differently() -> None:
    drawn = {tuple(split_whole(np.arange(100), 20, 0, seed)) for seed in range(5)}
    assert len(drawn) == 5


def test_one_image_lies_in_one_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """MSCOCO with five captions an image; one more caption is shared by two images."""
    images = np.repeat(np.random.default_rng(0).normal(size=(12, 4)), 5, 0)
    captions = [f"caption {row % 5} of image {row // 5}" for row in range(60)]
    captions[7] = captions[0]
    options = write_npy(tmp_path / "npy", pairs=60, dim=4, image_embeds=images, captions=captions)
    args = [*as_args(options), "--out", f"{tmp_path}/set", "--val", "12", "--test", "6"]
    assert main(["import-embeddings", *args]) == 0
    assert "warning: val has 10 pairs instead of 12: pairs of one image" in capsys.readouterr().err
    shards = ShardSet(tmp_path / "set", check="record")
    splits: dict[int, set[str]] = {}
    for number, entry in enumerate(shards.entries):
        chunk = shards.read_chunk(number)
        assert chunk.group is not None and entry.images == len(set(chunk.group.tolist()))
        for group in chunk.group.tolist():
            splits.setdefault(group, set()).add(entry.split)
    assert len(splits) == 12 and all(len(found) == 1 for found in splits.values())
    assert shards.manifest.splits == {"train": 45, "val": 10, "test": 5}
    assert main(["verify", f"{tmp_path}/set"]) == 0


def test_a_split_is_not_left_empty(tmp_path: Path) -> None:
    images = np.repeat(np.random.default_rng(0).normal(size=(3, 4)), 5, 0)
    options = write_npy(tmp_path / "npy", pairs=15, dim=4, image_embeds=images)
    assert import_embeddings(str(tmp_path / "set"), **options, val=2, test=1).splits == {"train": 5, "val": 5, "test": 5}


def test_vectors_without_a_direction_are_skipped_before_norms_are_checked(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    image, text = unit(rng.normal(size=(7, 4))), unit(rng.normal(size=(7, 4)))
    image[1], image[2], text[3], image[5] = 0, 1e-9 * image[2], -0.0, [1.4e-6, 2e-7, 0, 0]  # of the last 2 percent are lost
    options = write_npy(tmp_path / "npy", pairs=7, image_embeds=image.astype(np.float32), text_embeds=text.astype(np.float32))
    manifest = import_embeddings(str(tmp_path / "set"), **options)
    told = "embedding is zero, or vanishes in float16"
    assert {pair.key: pair.reason for pair in manifest.shards[0].skipped} == {
        **dict.fromkeys(("1", "2", "5"), f"its image {told}"),
        "3": f"its text {told}",
    }
    assert ShardSet(tmp_path / "set").space.normalised
    zeros = write_npy(tmp_path / "zeros", pairs=3, dim=4, image_embeds=np.zeros((3, 4)))
    with pytest.raises(ValueError, match="no pair that can be imported: its image embedding is zero"):
        import_embeddings(str(tmp_path / "none"), **zeros)
