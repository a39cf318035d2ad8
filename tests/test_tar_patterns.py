from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry as REGISTRY

from data_prep.__main__ import main
from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.raw.tar_patterns import find_tars, names_tars
from tests.helpers.raw_sets import embed, sample, write_tar

NAMES = [
    "br[1]acket",
    "cur{ly}",
    "two{a,b}",
    "half{",
    "sp ace",
    "st*r",
    "q?x",
    "hash#1",
    "été😀",
    "data:v2",
    "a/[b]/{c}",
    "50%20",
]


@pytest.mark.parametrize("folder", NAMES)
def test_a_folder_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    for name in ("0000.tar", "0001.tar"):
        write_tar(tmp_path / folder / name, {})
    monkeypatch.chdir(tmp_path)
    for place in (folder, f"{tmp_path}/{folder}", f"./{folder}"):
        both = {name: f"{place}/{name}" for name in ("0000.tar", "0001.tar")}
        assert find_tars([f"{place}/0000.tar", f"{place}/0001.tar"]) == both
        assert find_tars([f"{place}/*.tar"]) == find_tars([f"{place}/{{0000..0001}}.tar"]) == both
        assert find_tars([f"{place}/000[01].tar", f"{place}/0001.tar"]) == both, "one that is named twice is taken once"


def test_patterns_are_patterns_where_no_such_name_is_there(tmp_path: Path) -> None:
    for name in ("part1/0.tar", "part2/1.tar", "part[12]/2.tar", "*.tar", "3.tar"):
        write_tar(tmp_path / name, {})
    assert list(find_tars([f"{tmp_path}/part[12]/*.tar"])) == ["0.tar", "1.tar", "2.tar"]
    assert list(find_tars([f"{tmp_path}/*.tar"])) == ["*.tar", "3.tar"]


def test_paths_of_other_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tar(tmp_path / "a b.tar", {})
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_tars(["~/a b.tar"]) == find_tars(["~/*.tar"]) == {"a b.tar": f"{tmp_path}/a b.tar"}
    for url in (f"file:{tmp_path}/a b.tar", f"file://{tmp_path}/a%20b.tar", f"file://localhost{tmp_path}/a%20b.tar"):
        assert list(find_tars([url]).values()) == [f"{tmp_path}/a b.tar"]
    for name in ("0000.TAR", "0001.Tar.gz", "0002.tgz", "0003.tar.zst"):
        (tmp_path / name).touch()
        assert list(find_tars([str(tmp_path / name)])) == [f"{name[:4]}.tar"]


def test_invalid_sources_are_reported_in_one_sentence(tmp_path: Path) -> None:
    write_tar(tmp_path / "b.tar", {})
    (tmp_path / "folder.tar").mkdir()
    (tmp_path / "broken.tar").symlink_to("nowhere.tar")
    os.mkfifo(tmp_path / "pipe.tar")
    (tmp_path / "caf\udce9.tar").touch()
    for pattern, expected in {
        "folder.tar": "folder.tar is a folder",
        "f*.tar": "folder.tar is a folder",
        "bro*.tar": "broken.tar is a link to nowhere.tar, which is not there",
        "{b,c}.tar": "There is no source .*c.tar, one of .*{b,c}.tar",
        "pipe.tar": "pipe.tar is no regular file",
        "caf\udce9.tar": r"caf\\udce9.tar' is not UTF-8. Rename it",
    }.items():
        with pytest.raises(ValueError, match=expected):
            find_tars([f"{tmp_path}/{pattern}"])
    with pytest.raises(
        ValueError, match=r"nas://disk/.*.tar is a URL that nothing here opens; known are pipe:, http:.*'pipe:aws s3"
    ):
        find_tars(["nas://disk/{0..3}.tar"])


class Bucket(MemoryFileSystem):
    """Google's storage, in memory."""

    protocol: ClassVar[str] = "gs"  # type: ignore[misc]
    store: ClassVar[dict[str, Any]] = {}

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix(f"{cls.protocol}://").strip("/")

    def unstrip_protocol(self, name: str) -> str:
        return f"{self.protocol}://{name.removeprefix('/')}"


class Hub(Bucket):
    protocol = "hf"
    store: ClassVar[dict[str, Any]] = {}


@pytest.mark.parametrize(("kind", "folder"), [(Bucket, "gs://bucket/raw"), (Hub, "hf://datasets/me/pairs/raw")])
def test_patterns_of_urls_are_expanded_where_files_can_be_listed(
    monkeypatch: pytest.MonkeyPatch, kind: type[Bucket], folder: str
) -> None:
    monkeypatch.setitem(REGISTRY, str(kind.protocol), kind)
    for name in ("0000.tar", "0001.tar", "0001.json", "10.tar"):
        kind(skip_instance_cache=True).pipe_file(f"{folder}/{name}", b"")
    for pattern, names in {
        "*.tar": ["0000.tar", "0001.tar", "10.tar"],
        "000?.tar": ["0000.tar", "0001.tar"],
        "{0000,1*}.tar": ["0000.tar", "10.tar"],
        "7.tar": ["7.tar"],
    }.items():
        assert find_tars([f"{folder}/{pattern}"]) == {name: f"{folder}/{name}" for name in names}
        assert names_tars(f"{folder}/{pattern}")
    with pytest.raises(ValueError, match=r"^There is no source .*/raw/b\*\.tar\.$"):
        find_tars([f"{folder}/b*.tar"])


def test_patterns_of_urls_whose_files_cannot_be_listed() -> None:
    for scheme in ("http", "https", "scp"):
        with pytest.raises(
            ValueError, match=rf"^The source {scheme}://host/\*\.tar has a `\*`.*: '{scheme}://host/{{0000..0009}}"
        ):
            find_tars([f"{scheme}://host/*.tar?token=secret"])
    for url in ("https://host/0.tar?name=*", "pipe:cat raw/*/0.tar"):
        assert find_tars([url]) == {"0.tar": url}


def test_out_that_is_no_folder(tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    source = write_tar(tmp_path / "raw.tar", {"one": sample(0)})
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below" / "it"):
        with pytest.raises(ValueError, match=f"{tmp_path}/file is a file, so {out} cannot be a folder"):
            embed([str(source)], clip_encoder, out)


@pytest.mark.processes
def test_failed_streams_are_reported(tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    good = write_tar(tmp_path / "good.tar", {"one": sample(0)})
    for source, expected in {
        "https://127.0.0.1:9/0000.tar": r"curl ended with exit code 7 \(no connection\), after 0 bytes",
        f"pipe:cat {tmp_path}/0000.tar 2>/dev/null": "its command ended with exit code 1, after 0 bytes",
        "pipe:exit 3 # 0000.tar": "its command ended with exit code 3",
    }.items():
        with pytest.raises(ValueError, match=rf"1 of 2 sources could not be read to their end: .*0000.tar.* \({expected}"):
            embed([str(good), source], clip_encoder, tmp_path / "shards")


def test_several_words_keep_their_letters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [str(write_tar(tmp_path / name, {})) for name in ("😀a.tar", "é.tar")]
    assert main(["embed", "--source", *names, f"{tmp_path}/none.tar", "--out", f"{tmp_path}/shards"]) == 2
    assert f"There is no source {tmp_path}/none.tar" in capsys.readouterr().err
