from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eclipse_pl.data.manifest import SkippedPair
from eclipse_pl.raw.names import IMAGES
from eclipse_pl.raw.reasons import APART, shown
from eclipse_pl.raw.tar_files import BrokenSourceError
from eclipse_pl.raw.tar_samples import TarSample, TarSamples
from tests.helpers.raw_sets import sample, write_tar


def tar_of(names: list[str], **types: bytes) -> bytes:
    """A tar of files of these names, each with its name as content; names that end in a slash are folders."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.GNU_FORMAT, encoding="utf-8") as tar:
        for name in names:
            header = tarfile.TarInfo(name)
            data = name.encode("utf-8", "surrogateescape")
            if name.endswith("/"):
                header.type, data = tarfile.DIRTYPE, b""
            elif name in types:
                header.type, header.linkname, data = types[name], "elsewhere", b""
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    return content.getvalue()


def read(folder: Path, content: bytes) -> tuple[list[TarSample], dict[str, str], int]:
    """Whole samples, reasons by key, other files. Where the tar ends in an error, its message is the reason of the key ""."""
    path = folder / "read.tar"
    path.write_bytes(content)
    samples = TarSamples(str(path))
    found: list[TarSample | SkippedPair] = []
    reasons = {}
    try:
        found += samples
    except BrokenSourceError as error:
        reasons = {"": str(error)}
    skipped = [one for one in found if isinstance(one, SkippedPair)]
    reasons |= {one.key: one.reason for one in skipped}
    return [one for one in found if isinstance(one, TarSample)], reasons, samples.others


def whole(folder: Path, names: list[str]) -> dict[str, list[str]]:
    samples, _, _ = read(folder, tar_of(names))
    return {one.key: one.suffixes for one in samples}


def test_dots_neither_melt_samples_nor_hide_them(tmp_path: Path) -> None:
    photos = [f"set/photo.v2.{number}.{suffix}" for number in range(3) for suffix in ("jpg", "txt")]
    assert whole(tmp_path, photos) == {f"set/photo.v2.{number}": ["jpg", "txt"] for number in range(3)}
    numbered = ["cat.jpg", "cat.txt", "cat.1.jpg", "cat.1.txt", "cat.2.JPG", "cat.2.Json"]
    expected = {"cat": ["jpg", "txt"], "cat.1": ["jpg", "txt"], "cat.2": ["jpg", "json"]}
    assert whole(tmp_path, numbered) == whole(tmp_path, sorted(numbered)) == expected
    # between the image and the caption of a.b stand those of a.b.k
    nested = ["a.b.jpg", "a.b.k.jpg", "a.b.k.txt", "a.b.l.c.png", "a.b.negative.png", "a.b.npy", "a.b.txt", "a.c.txt"]
    samples, reasons, _ = read(tmp_path, tar_of(nested))
    assert {one.key: one.suffixes for one in samples} == {
        "a.b.k": ["jpg", "txt"],
        "a.b": ["jpg", "negative.png", "npy", "txt"],
    }
    assert reasons == {"a.b.l.c": "no caption (there are: png)", "a.c": "no image (there are: txt)"}


def test_unknown_suffixes_belong_to_the_sample_they_stand_by(tmp_path: Path) -> None:
    names = ["a.1.depth.npy", "a.1.jpg", "a.1.cls", "a.1.txt", "b.heic", "b.txt", "LICENSE", "c.jxl", "d/.jpg"]
    samples, reasons, others = read(tmp_path, tar_of(names))
    assert {one.key: one.suffixes for one in samples} == {"a.1": ["cls", "depth.npy", "jpg", "txt"]} and others == 0
    assert reasons == {
        "b": "no image (there are: heic, txt; .heic is not read)",
        "LICENSE": "no image",
        "c": "no image (there are: jxl; .jxl is not read)",
        "d/.jpg": "no image",
    }


def test_files_that_are_expected(tmp_path: Path) -> None:
    others = ["set/", "._0.jpg", "set/._0.txt", "__MACOSX/set/0.jpg", "set/__MACOSX/._0.jpg", "set/.DS_Store", "Thumbs.db"]
    others += ["__index__", "00000_stats.json", "._hidden/0.jpg"]
    pair = ["set/0.jpg", "set/0.txt", "team_stats.jpg", "team_stats.json", "__0.jpg", "__0.txt"]
    samples, reasons, counted = read(tmp_path, tar_of(others[:4] + pair + others[4:]))
    assert {one.key for one in samples} == {"set/0", "team_stats", "__0"} and not reasons and counted == len(others)


def test_a_sample_that_stands_twice_costs_one_pair(tmp_path: Path) -> None:
    pair = ["0.jpg", "0.txt"]
    for names in ([*pair, *pair, "1.png", "1.txt"], [*pair, "1.png", "1.txt", *pair], [*pair, "0.jpg", "1.png", "1.txt"]):
        samples, reasons, _ = read(tmp_path, tar_of(names))
        assert [one.key for one in samples] == ["0", "1"]
        assert reasons == {"0": "its key occurs twice in the tar, and the first sample is used"}


def test_a_tar_that_is_not_sorted_is_said_to_be(tmp_path: Path) -> None:
    names = [f"{number}.{suffix}" for suffix in ("jpg", "txt") for number in range(5)]
    samples, reasons, _ = read(tmp_path, tar_of(names))
    assert not samples and set(reasons) == {"", *"01234"}
    assert reasons[""] == (
        "its files are not sorted by name: those of 5 samples lie apart. Pack it again, for example with "
        "`tar --sort=name -cf NEW.tar -C FOLDER .`"
    )
    # one that was appended later costs one pair
    samples, reasons, _ = read(tmp_path, tar_of(["0.jpg", "1.jpg", "1.txt", "2.jpg", "2.txt", "0.txt"]))
    assert [one.key for one in samples] == ["1", "2"]
    assert list(reasons) == ["0"] and reasons["0"].startswith(APART) and reasons["0"].endswith("(there are: jpg, txt)")


def test_links_are_named(tmp_path: Path) -> None:
    content = tar_of(["a.jpg", "a.txt", "b.jpg", "b.txt"], **{"a.jpg": tarfile.SYMTYPE, "b.txt": tarfile.FIFOTYPE})
    samples, reasons, _ = read(tmp_path, content)
    assert not samples
    assert reasons == {
        "a": "one of its files is not read (its jpg is a link)",
        "b": "one of its files is not read (its txt is no file)",
    }


def test_what_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eclipse_pl.raw.tar_files.MOST_BYTES", 1 << 20)
    path = write_tar(tmp_path / "read.tar", {"a": {"jpg": b"x" * (1 << 20), "txt": b"y"}, "b": {"jpg": b"x" * (1 << 21)}})
    found = {one.key: one for one in TarSamples(str(path))}
    assert isinstance(found["a"], TarSample) and found["b"] == SkippedPair("b", "no caption (there are: jpg)")
    write_tar(path, {"a": {"jpg": b"x" * (1 << 21), "txt": b"y"}})
    assert list(TarSamples(str(path))) == [SkippedPair("a", "one of its files is not read (its jpg is larger than 1 MiB)")]


PIECES = st.sampled_from(["a", "b", "v2", "0", "1", "é", "\udcff", "😀", " ", "negative", "._", "__", "json", "jpg", ""])
SUFFIXES = st.sampled_from(
    ["jpg", "png", "JPG", "WebP", "gif", "txt", "TXT", "json", "negative.png", "Negative.jpg", "npy", "x.npy", "heic", ""]
)
NAMES = st.builds(
    lambda folder, stem, suffix: f"{folder}{'.'.join(stem)}.{suffix}".rstrip("."),
    st.sampled_from(["", "", "set/", "set.v1/", "./", "__MACOSX/", "é/", "a/b/"]),
    st.lists(PIECES, min_size=1, max_size=4),
    SUFFIXES,
).filter(lambda name: name.strip("/.") and not name.endswith("/"))


def key_and_suffix(name: str) -> tuple[str, str]:
    """The rule once more, written in another way: the longest known ending."""
    folder, file = name[: name.rfind("/") + 1], name[name.rfind("/") + 1 :]
    known = ["txt", "json", *IMAGES, *(f"negative.{suffix}" for suffix in IMAGES)]
    for suffix in sorted(known, key=len, reverse=True):
        if file.lower().endswith(f".{suffix}") and len(file) > len(suffix) + 1:
            return folder + file[: -len(suffix) - 1], suffix
    return name, ""


def expected_other(name: str) -> bool:
    parts = name.split("/")
    own = re.fullmatch("__.+__", parts[-1], re.DOTALL)
    return bool(own) or any(part.startswith("._") or part == "__MACOSX" for part in parts)


@pytest.mark.long
@settings(max_examples=150)
@given(st.lists(NAMES, max_size=14), st.sampled_from(["as drawn", "sorted", "grouped"]), st.integers(0, 3))
def test_every_file_of_a_tar_is_counted(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], order: str, repeated: int
) -> None:
    if order == "as drawn":
        names = names + names[:repeated]
    else:
        names = sorted(set(names)) if order == "sorted" else sorted(set(names), key=lambda name: key_and_suffix(name)[0])
    samples, reasons, others = read(tmp_path_factory.getbasetemp(), tar_of(names))
    files = [name for name in names if not expected_other(name)]
    unsorted = reasons.pop("", None)
    # every file is in a pair, in a skipped sample, or counted
    reported = {one.key for one in samples} | set(reasons)
    statistics = {name for name in files if name.endswith("_stats.json")}
    assert others == len(names) - len(files) + len(statistics)
    for name in files:
        key, suffix = key_and_suffix(name)
        belongs = [key] if suffix else [name[:end] for end, letter in enumerate(name) if letter == "."] + [name]
        assert any(possible in reported or shown(possible) in reported for possible in belongs), name
    # and nothing else is
    for key in reported:
        assert any(name == key or name.startswith(f"{key}.") or shown(name).startswith(key) for name in files)
    by_key: dict[str, set[str]] = {}
    for name in files:
        key, suffix = key_and_suffix(name)
        by_key.setdefault(key, set()).add(suffix)
    complete = {key for key, suffixes in by_key.items() if suffixes & set(IMAGES) and suffixes & {"txt", "json"}}
    for one in samples:
        assert one.key in complete
        for suffix, content in one.files.items():
            assert key_and_suffix(content.decode("utf-8", "surrogateescape")) == (one.key, suffix)
    assert len({one.key for one in samples}) == len(samples)
    if order == "sorted":
        assert {one.key for one in samples} == complete and unsorted is None


def test_what_stands_behind_the_end_of_a_tar(tmp_path: Path) -> None:
    first, second = tar_of(["0.jpg", "0.txt"]), tar_of(["1.jpg", "1.txt", "2.jpg"])
    for packed in (bytes, gzip.compress, bz2.compress, lzma.compress):
        samples, reasons, _ = read(tmp_path, packed(first) + packed(second))
        assert [one.key for one in samples] == ["0", "1"] and set(reasons) == {"2"}
    for rest in (b"", bytes(700), bytes(1)):
        assert [one.key for one in read(tmp_path, first + rest)[0]] == ["0"]
    for rest in (b"rest", b"x" * 5000, second[:100]):
        _, reasons, _ = read(tmp_path, first + rest)
        assert "the bytes after the tar's end mark are not another tar" in reasons[""]
    assert "after" in read(tmp_path, first + second[:600])[1][""], "cut off in the second tar"


@pytest.mark.parametrize("packed", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_a_tar_that_is_cut_anywhere_is_an_error(tmp_path: Path, packed: Callable[[bytes], bytes]) -> None:
    names = ["0.jpg", "0.txt", "1.jpg", "1.txt"]
    content = tar_of(names)[: 2 * 512 * len(names)]  # without its end mark
    assert "" not in read(tmp_path, packed(content + bytes(512)))[1]
    for size in range(0, len(content) + 1, 256):
        assert "" in read(tmp_path, packed(content[:size]))[1], size


@given(st.binary(min_size=1, max_size=3), st.integers(0, 4095))
def test_a_damaged_tar_ends_in_one_sentence_or_is_read(
    tmp_path_factory: pytest.TempPathFactory, damage: bytes, place: int
) -> None:
    content = bytearray(tar_of(["0.jpg", "0.txt", "1.jpg", "1.txt"]))
    content[place : place + len(damage)] = damage
    read(tmp_path_factory.getbasetemp(), bytes(content))


def test_headers_that_claim_gigabytes_are_not_believed(tmp_path: Path) -> None:
    header = tarfile.TarInfo("0.jpg")
    header.type, header.size = tarfile.XHDTYPE, 1 << 33
    assert "a header of 8589934592 bytes" in read(tmp_path, header.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 16))[1][""]


def test_text_called_tar(tmp_path: Path) -> None:
    assert "it is not a tar" in read(tmp_path, b"this is text " * 100)[1][""]
    assert "it is not a tar" in read(tmp_path, b"")[1][""]


@pytest.mark.processes
def test_compressed_and_piped_tars(tmp_path: Path) -> None:
    samples = {f"{number}": sample(number) for number in range(3)}
    packed = write_tar(tmp_path / "packed.tar.gz", samples, "w:gz")
    plain = write_tar(tmp_path / "plain.tar", samples)
    for source in (str(packed), f"pipe:cat {plain}"):
        assert {one.key: one.files for one in TarSamples(source) if isinstance(one, TarSample)} == samples
    with pytest.raises(BrokenSourceError, match="its command ended with exit code 1, after 0 bytes"):
        list(TarSamples(f"pipe:cat {tmp_path}/nothing.tar 2>/dev/null"))
    with pytest.raises(BrokenSourceError, match="its command ended with exit code 3"):
        list(TarSamples(f"pipe:cat {plain}; exit 3"))
    packed.write_bytes(packed.read_bytes()[:-900])
    with pytest.raises(BrokenSourceError):
        list(TarSamples(str(packed)))


def test_tars_packed_by_zstd(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    names = ["0.jpg", "0.txt", "1.jpg", "1.txt"]
    first, second = zstandard.compress(tar_of(names[:2])), zstandard.compress(tar_of(names[2:]))
    assert [one.key for one in read(tmp_path, first + second)[0]] == ["0", "1"]
    for cut in range(1, len(second)):
        assert "the data packed by zstd are cut off" in read(tmp_path, first + second[:-cut])[1][""]
    assert "packed by zstd are damaged" in read(tmp_path, first[:4] + b"\xff" * 20)[1][""]
    large = tar_of([f"{number}.{suffix}" for number in range(300) for suffix in ("jpg", "txt")])
    assert len(read(tmp_path, zstandard.compress(large))[0]) == 300


def test_without_zstandard_its_name_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    _, reasons, _ = read(tmp_path, b"\x28\xb5\x2f\xfd and so on")
    assert "packed by zstd, which needs the package zstandard: `pip install zstandard`" in reasons[""]
