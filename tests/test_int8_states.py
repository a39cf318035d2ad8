from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from data_prep.__main__ import main
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.data.states import BLOCK, from_int8, to_int8
from tests.helpers.raw_sets import raw_set, read_all
from tests.helpers.recorder import data_of, epochs_of
from tests.helpers.shard_sets import make_chunk, make_shard_set, write_chunks

LARGEST, SMALLEST = float(np.finfo(np.float16).max), float(np.finfo(np.float16).smallest_subnormal)


def within_half_a_step(states: np.ndarray) -> None:
    stored, scale = to_int8(states)
    restored = from_int8(stored, scale)
    exact, factors = states.astype(np.float64), scale.astype(np.float64)[:, None]
    rounding = np.spacing(np.abs(restored)).astype(np.float64) / 2
    assert np.isfinite(restored).all()
    assert (np.abs(restored.astype(np.float64) - exact) <= factors / 2 + rounding).all()
    assert np.array_equal(scale == 0, ~states.any(1)), "only a row of zeros has no scale"


ROWS = npst.array_shapes(min_dims=2, max_dims=2, max_side=9)


@given(npst.arrays(np.float16, ROWS, elements=st.floats(-LARGEST, LARGEST, width=16)))
@example(np.array([[LARGEST, -LARGEST, 1.0], [0.0, 0.0, 0.0], [SMALLEST, 0.0, -3 * SMALLEST], [-0.0, 0.0, 0.0]], np.float16))
@example(np.array([[178 * SMALLEST, 70 * SMALLEST]], np.float16))  # the factor lies between 1 and 2 smallest numbers
def test_error_is_half_a_step(states: np.ndarray) -> None:
    within_half_a_step(states)


@pytest.mark.parametrize("size", [1e-7, 1e-6, 1e-3, 1.0, 100.0, 15_000.0])
def test_error_of_gaussian_states_of_any_size(size: float) -> None:
    states = (size * np.random.default_rng(0).normal(size=(2 * BLOCK + 3, 16))).astype(np.float16)
    within_half_a_step(states)
    assert np.abs(to_int8(states)[0].astype(int)).max() <= 127


def test_restoring_into_memory_equals_one_rounding_of_the_product() -> None:
    stored, scale = to_int8(np.random.default_rng(1).normal(size=(BLOCK + 7, 5)).astype(np.float16))
    out = np.empty((BLOCK + 7, 5), np.float16)
    assert from_int8(stored, scale, out) is out
    np.testing.assert_array_equal(out, (stored * scale.astype(np.float32)[:, None]).astype(np.float16))


def test_a_set_of_int8_states_differs_in_its_states_alone(tmp_path: Path) -> None:
    splits = {"train": 40, "val": 12}
    half, small = (
        ShardSet(make_shard_set(tmp_path / states, splits=splits, width=64, states=states), check="sha256")
        for states in ("float16", "int8")
    )
    assert (half.states, small.states) == ("float16", "int8")
    assert sorted(small.entries[0].members) == sorted(
        {"text_states_int8.npy", "text_states_scale.npy"} | set(half.entries[0].members) - {"text_states.npy"}
    )
    records = np.array([2, 0, 0, 1, 2])
    rows = np.array([3, 5, 1, 0, 2])
    for shards in (half, small):
        assert shards.read_chunk(0, with_states=False).text_states is None
        assert not shards.gather(records, rows, with_states=False).text.lengths.any()
    for record in range(len(half.entries)):
        exact, restored = half.read_chunk(record), small.read_chunk(record)
        np.testing.assert_array_equal(restored.text_states, from_int8(*to_int8(np.array(exact.text_states))))
        for name in ("image_embed", "text_embed", "lengths", "group", "negative_embed"):
            np.testing.assert_array_equal(getattr(restored, name), getattr(exact, name))
    batch, expected = small.gather(records, rows), half.gather(records, rows)
    assert torch.equal(batch.text.lengths, expected.text.lengths) and torch.equal(batch.image_embed, expected.image_embed)
    states = batch.text.text_states.split(batch.text.lengths.tolist())
    for place, (record, row) in enumerate(zip(records, rows, strict=True)):
        chunk = small.read_chunk(record)
        ends = np.cumsum(chunk.lengths)
        np.testing.assert_array_equal(states[place], chunk.text_states[ends[row] - chunk.lengths[row] : ends[row]])


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.processes)])
def test_the_loader_restores_int8_states(tmp_path: Path, workers: int) -> None:
    half, small = (make_shard_set(tmp_path / states, pairs=70, states=states) for states in ("float16", "int8"))
    restored = ShardSet(small)
    batches = zip(epochs_of(data_of(half), 2), epochs_of(data_of(small, workers=workers), 2), strict=True)
    for expected, batch in batches:
        assert torch.equal(batch.index, expected.index) and torch.equal(batch.text.lengths, expected.text.lengths)
        records = np.searchsorted(restored.record_starts, batch.index.numpy(), side="right") - 1
        alone = restored.gather(records, batch.index.numpy() - restored.record_starts[records])
        assert batch.text.text_states.dtype == torch.float16
        assert torch.equal(batch.text.text_states, alone.text.text_states)
        torch.testing.assert_close(batch.text.text_states, expected.text.text_states, atol=0.02, rtol=0)


def test_pairs_without_tokens_have_no_states(tmp_path: Path) -> None:
    chunk = make_chunk(np.random.default_rng(0), 5, 8, 6, tokens=(0, 0))
    shards = ShardSet(write_chunks(tmp_path, [chunk], states="int8"))
    assert shards.read_chunk(0).text_states.shape == (0, 6)
    assert shards.gather(np.array([0]), np.array([2])).text.text_states.shape == (0, 6)


def test_embed_stores_int8_states(tmp_path: Path, clip_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = raw_set(tmp_path / "raw", tars=1)
    clip = ["--encoder.model", f"local-dir:{clip_folder}", "--encoder.pretrained", "null", "--encoder.device", "cpu"]
    common = ["embed", "--source", *sources, *clip, "--workers", "0", "--val", "0.2", "--test", "0"]
    assert main([*common, "--out", f"{tmp_path}/half"]) == 0
    assert main([*common, "--out", f"{tmp_path}/small", "--states", "int8"]) == 0
    exact, restored = read_all(tmp_path / "half"), read_all(tmp_path / "small")
    assert list(exact) == list(restored)
    for key, pair in exact.items():
        again = from_int8(*to_int8(pair["states"].half().numpy()))
        np.testing.assert_array_equal(restored[key]["states"].half(), again)
        assert torch.equal(pair["image"], restored[key]["image"]) and torch.equal(pair["text"], restored[key]["text"])
    capsys.readouterr()
    assert main(["verify", f"{tmp_path}/small"]) == 0
    assert "tokens as int8 states" in capsys.readouterr().out
    assert json.loads((tmp_path / "small" / "embed.json").read_text())["states"] == "int8"
    assert main([*common, "--out", f"{tmp_path}/small"]) == 2
    assert "states: int8 there, float16 now" in capsys.readouterr().err


def test_verify_finds_a_damaged_factor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chunk = make_chunk(np.random.default_rng(0), 5, 8, 6)
    folder = write_chunks(tmp_path, [chunk], states="int8")
    shards = ShardSet(folder)
    place = shards.entries[0].members["text_states_scale.npy"][0] + 128
    content = bytearray((folder / "0000.tar").read_bytes())
    content[place : place + 2] = np.array([np.inf], np.float16).tobytes()
    (folder / "0000.tar").write_bytes(content)
    with pytest.raises(SystemExit):
        main(["verify", str(folder)])
    assert "damaged: 0000_00000" in capsys.readouterr().out
    with pytest.raises(ValueError, match="other bytes than were written"):
        ShardSet(folder, check="record").gather(np.array([0]), np.array([0]))


def test_a_set_has_one_form_of_states(tmp_path: Path) -> None:
    make_shard_set(tmp_path / "half", pairs=20)
    make_shard_set(tmp_path / "small", pairs=20, states="int8")
    one, other = (json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("half", "small"))
    one["shards"][0]["records"][1] = other["shards"][0]["records"][1]
    (tmp_path / "half" / "manifest.json").write_text(json.dumps(one))
    with pytest.raises(ValueError, match="names records of float16 and of int8; the captions of a set are stored in one form"):
        ShardSet(tmp_path / "half")
