from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.raw.pairs import RawPair, normal_caption, split_of
from eclipse_pl.raw.sources import find_sources
from eclipse_pl.raw.tar_samples import BrokenSourceError, read_samples
from tests.raw_sets import embed, sample, write_tar
from tests.test_openclip import tiny_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("clip") / "tiny", embed_dim=16)


@pytest.fixture(scope="module")
def encoder(folder: Path) -> OpenClipEncoder:
    return OpenClipEncoder(f"local-dir:{folder}", None, device="cpu")


@given(
    st.lists(st.tuples(st.text(min_size=1, max_size=5), st.none() | st.sampled_from("abc")), max_size=20), st.floats(0, 0.5)
)
def test_one_caption_or_group_never_lies_in_two_splits(rows: list[tuple[str, str | None]], val: float) -> None:
    splits: dict[str, set[str]] = {}
    for caption, group in rows:
        for written in (caption, f"  {caption.upper().lower()} "):
            name = normal_caption(written) if group is None else group
            splits.setdefault(name, set()).add(split_of(RawPair("k", written, b"", None, None, name, "", 0), val, 0.2))
    assert all(len(found) == 1 for found in splits.values())


def test_fractions_of_the_splits(tmp_path: Path) -> None:
    pairs = [RawPair("k", "", b"", None, None, f"group {number}", "", 0) for number in range(4000)]
    drawn = [split_of(pair, 0.1, 0.3) for pair in pairs]
    assert abs(drawn.count("val") / 4000 - 0.1) < 0.02 and abs(drawn.count("test") / 4000 - 0.3) < 0.03
    larger = [split_of(pair, 0.4, 0.3) for pair in pairs]
    assert [split == "test" for split in drawn] == [split == "test" for split in larger]
    assert all(after == "val" for before, after in zip(drawn, larger, strict=True) if before == "val")
    assert {split_of(pair, 1.0, 0.0) for pair in pairs} == {"val"}
    own = RawPair("k", "", b"", None, "train", "group 0", "", 0)
    assert split_of(own, 0.0, 1.0) == "train"


def test_a_split_of_another_name_is_an_error(tmp_path: Path, encoder: OpenClipEncoder) -> None:
    source = write_tar(tmp_path / "raw.tar", {"one": sample(0, split="validation")})
    with pytest.raises(ValueError, match="json of one names the split 'validation'; the splits are train, val, test"):
        embed([str(source)], encoder, tmp_path / "shards")


def test_sources_are_found_and_named(tmp_path: Path) -> None:
    for name in ("0000", "0001", "cc.v2-0002"):
        write_tar(tmp_path / f"{name}.tar", {})
    (tmp_path / "0003.tar.gz").touch()
    assert list(find_sources([f"{tmp_path}/{{0000..0001}}.tar"])) == ["0000.tar", "0001.tar"]
    assert list(find_sources([f"{tmp_path}/*.tar"])) == ["0000.tar", "0001.tar", "cc_v2-0002.tar"]
    assert find_sources([f"{tmp_path}/0003.tar.gz"]) == {"0003.tar": f"{tmp_path}/0003.tar.gz"}
    remote = ["https://host/set/{00..01}.tar?key=3", "pipe:aws s3 cp s3://bucket/02.tar -"]
    assert list(find_sources(remote)) == ["00.tar", "01.tar", "02.tar"]
    with pytest.raises(ValueError, match=r"There is no source .*0002.tar"):
        find_sources([f"{tmp_path}/{{0000..0002}}.tar"])
    with pytest.raises(ValueError, match=r"There is no source .*none"):
        find_sources([f"{tmp_path}/none*.tar"])
    with pytest.raises(ValueError, match=r"does not end in .tar"):
        find_sources(["https://host/page.html"])
    with pytest.raises(ValueError, match=r"would both become the shard 0000.tar"):
        find_sources([f"{tmp_path}/0000.tar", "https://host/0000.tar"])
    with pytest.raises(ValueError, match="No source"):
        find_sources([])


def test_compressed_and_piped_tars(tmp_path: Path) -> None:
    samples = {f"{number}": sample(number) for number in range(3)}
    packed = write_tar(tmp_path / "packed.tar.gz", samples, "w:gz")
    plain = write_tar(tmp_path / "plain.tar", samples)
    for source in (str(packed), f"pipe:cat {plain}"):
        assert {key: content for _, key, content in read_samples(source)} == samples
    with pytest.raises(BrokenSourceError):
        list(read_samples(f"pipe:cat {tmp_path}/nothing.tar 2>/dev/null"))
    packed.write_bytes(packed.read_bytes()[:-900])
    with pytest.raises(BrokenSourceError):
        list(read_samples(str(packed)))
