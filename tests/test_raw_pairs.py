from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.verify import verify
from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.raw.tar_patterns import find_tars
from tests.helpers.raw_sets import embed, image_bytes, read_all, sample, write_tar


def test_a_split_of_another_name_costs_its_pair(tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    samples = {"one": sample(0, split="validation"), "two": sample(1, split=["val"]), "three": sample(2, split="val")}
    manifest = embed([str(write_tar(tmp_path / "raw.tar", samples))], clip_encoder, tmp_path / "shards")
    assert {pair.key: pair.reason for pair in manifest.shards[0].skipped} == {
        "one": "it names an unknown split ('validation'; the splits are train, val, test)",
        "two": "it names an unknown split (['val']; the splits are train, val, test)",
    }
    assert manifest.splits == {"val": 1}


def test_a_subset_whose_name_tables_use_costs_its_pair(tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    samples = {"one": sample(0, subset="all"), "two": sample(1, subset="a/b"), "three": sample(2, subset="seen")}
    manifest = embed([str(write_tar(tmp_path / "raw.tar", samples))], clip_encoder, tmp_path / "shards")
    skipped = {pair.key: pair.reason for pair in manifest.shards[0].skipped}
    assert skipped.keys() == {"one", "two"} and manifest.pairs == 1
    assert skipped["one"].startswith(
        "its subset has a name that tables use (the subset 'all' cannot have this name: all, mean_"
    )


def test_a_list_of_captions_makes_as_many_pairs(tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    samples = {"one": {"png": image_bytes(0), "json": b'{"captions": ["a cat", "a tom"], "split": "val"}'}, "two": sample(1)}
    embed([str(write_tar(tmp_path / "raw.tar", samples))], clip_encoder, tmp_path / "shards")
    pairs = read_all(tmp_path / "shards")
    assert {key: pair["caption"] for key, pair in pairs.items()} == {
        "one": "a cat",
        "one#1": "a tom",
        "two": "image number 1 of the set",
    }
    assert pairs["one"]["split"] == pairs["one#1"]["split"] == "val"
    torch.testing.assert_close(pairs["one"]["image"], pairs["one#1"]["image"])


def test_negative_captions_follow_their_captions(tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    about = {"captions": ["a cat on a mat", "a tom"], "negative_caption": ["a mat on a cat", None], "split": "train"}
    samples = {
        "one": {"png": image_bytes(0), "json": json.dumps(about).encode()},
        "odd": sample(2, negative_caption=["a", "b"]),
    }
    manifest = embed([str(write_tar(tmp_path / "raw.tar", samples))], clip_encoder, tmp_path / "shards")
    reason = "its negative captions are not one text for each caption (2 for 1 captions of the txt)"
    assert {pair.key: pair.reason for pair in manifest.shards[0].skipped} == {"odd": reason}
    pairs = read_all(tmp_path / "shards")
    expected = clip_encoder.encode_text(["a mat on a cat"]).text_embed[0]
    torch.testing.assert_close(pairs["one"]["negative_text"], expected, rtol=2e-3, atol=2e-3)
    assert pairs["one#1"]["negative_text"].isnan().all() and pairs["one"]["negative"] is None


ODD = st.sampled_from(["a\ud83c", "\0", "\u2028", "a"])
TEXTS = st.text(st.characters(exclude_categories=()), min_size=1, max_size=4) | ODD


@pytest.mark.long
@settings(max_examples=15)
@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS, TEXTS, st.booleans()), min_size=1, max_size=6))
def test_odd_strings_cost_their_pairs_alone(
    tmp_path_factory: pytest.TempPathFactory, clip_encoder: OpenClipEncoder, rows: list[tuple[str, str, str, str, bool]]
) -> None:
    """In captions, keys, groups and subsets; ``verify`` reads what was made of them."""
    folder = tmp_path_factory.mktemp("odd")
    samples = {"good": sample(0)}
    for number, (caption, key, group, subset, as_txt) in enumerate(rows):
        about = {"group": group, "subset": subset, "negative_caption": subset} | ({} if as_txt else {"caption": caption})
        txt = {"txt": caption.encode("utf-8", "surrogatepass")} if as_txt else {}
        name = key.replace("/", "").encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")
        samples[f"{number}{name}"] = {"png": image_bytes(1), "json": json.dumps(about).encode(), **txt}
    manifest = embed([str(write_tar(folder / "raw.tar", samples))], clip_encoder, folder / "shards")
    assert manifest.pairs + len(manifest.shards[0].skipped) == len(samples) and "good" in read_all(folder / "shards")
    assert not [finding for finding in verify([str(folder / "shards")]) if finding.wrong and "splits" not in finding.check]


def test_a_run_counts_all_that_its_tars_hold(
    tmp_path: Path, clip_encoder: OpenClipEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = {"set/one": sample(0), "set/._one": sample(0), "two": {"txt": b"a cat"}, "set/three.v2": sample(1)}
    samples["r"] = {"md": b"how it was made"}
    write_tar(tmp_path / "a.tar", {**samples, "00000_stats": {"json": b"{}"}})
    write_tar(tmp_path / "b.tar", {"caf\udce9": sample(2), "four": sample(3)})
    manifest = embed([f"{tmp_path}/*.tar"], clip_encoder, tmp_path / "shards")
    assert "a.tar: 2 pairs, 2 skipped (2: no image), 3 expected other files; 1 of 2" in capsys.readouterr().out
    first, second = manifest.shards
    assert {pair.key: pair.reason for pair in first.skipped} == {
        "two": "no image (there are: txt)",
        "r": "no image (there are: md)",
    }
    assert first.pairs == 2 and first.others == 3 and (second.pairs, second.others) == (1, 0)
    assert second.skipped[0].key == "caf\\udce9" and second.skipped[0].reason.startswith("odd characters (its name holds")


def test_sources_are_found_and_named(tmp_path: Path) -> None:
    for name in ("0000", "0001", "cc.v2-0002"):
        write_tar(tmp_path / f"{name}.tar", {})
    (tmp_path / "0003.tar.gz").touch()
    assert list(find_tars([f"{tmp_path}/{{0000..0001}}.tar"])) == ["0000.tar", "0001.tar"]
    assert list(find_tars([f"{tmp_path}/*.tar"])) == ["0000.tar", "0001.tar", "cc_v2-0002.tar"]
    assert find_tars([f"{tmp_path}/0003.tar.gz"]) == {"0003.tar": f"{tmp_path}/0003.tar.gz"}
    remote = ["https://host/set/{00..01}.tar?key=3", "pipe:aws s3 cp s3://bucket/02.tar -"]
    assert list(find_tars(remote)) == ["00.tar", "01.tar", "02.tar"]
    with pytest.raises(ValueError, match=r"There is no source .*0002.tar"):
        find_tars([f"{tmp_path}/{{0000..0002}}.tar"])
    with pytest.raises(ValueError, match=r"There is no source .*none"):
        find_tars([f"{tmp_path}/none*.tar"])
    with pytest.raises(ValueError, match=r"does not end in .tar"):
        find_tars(["https://host/page.html"])
    with pytest.raises(ValueError, match=r"would both become the shard 0000.tar"):
        find_tars([f"{tmp_path}/0000.tar", "https://host/0000.tar"])
    with pytest.raises(ValueError, match="No source"):
        find_tars([])
