from __future__ import annotations

import json
import pickle
import sys
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from eclipse_pl.data import remote_folder
from eclipse_pl.data.pipe_folder import PipeFolder
from eclipse_pl.data.remote_folder import WAITS, NoRangesError, RemoteFolder, StoppedError, is_url
from tests.helpers.unreliable_server import Faults, serving

CONTENT = bytes(range(256)) * 100
REGISTRY = sys.modules["fsspec.registry"]._registry
"""fsspec's classes by their protocols, as far as they are loaded."""


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.tar").write_bytes(CONTENT)
    return tmp_path / "files"


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_folder, "WAITS", (0.001,) * len(WAITS))


def test_what_is_a_url() -> None:
    assert all(map(is_url, ["s3://b/k", "https://h/k", "hf://datasets/a/b", "pipe:cat {}", "file:///k", "memory://k"]))
    assert not any(map(is_url, ["data/karlo", "/data/karlo", Path("a"), "~/s3", "C:/karlo", "data:old/karlo"]))


def test_files_and_ranges(folder: Path) -> None:
    with serving(folder) as server:
        remote = RemoteFolder(f"{server.url}/")
        assert remote.read("a.tar") == CONTENT
        for start, stop in ((0, 10), (300, 301), (25_000, 25_600)):
            assert remote.read("a.tar", start, stop) == CONTENT[start:stop]
        assert server.requests[1] == ("/a.tar", "bytes=0-9")
        assert pickle.loads(pickle.dumps(remote)).read("a.tar", 5, 9) == CONTENT[5:9]


def test_a_query_stays_behind_the_names(folder: Path) -> None:
    with serving(folder) as server:
        assert RemoteFolder(f"{server.url}/?key=1").read("a.tar", 5, 9) == CONTENT[5:9]
        assert server.requests == [("/a.tar?key=1", "bytes=5-8")]
        with pytest.raises(ValueError, match=r"There is no http://.*/nothing.tar ") as error:
            RemoteFolder(f"{server.url}/?key=secret").read("nothing.tar")
        assert "secret" not in str(error.value)


@pytest.mark.parametrize("fault", ["fail", "truncate", pytest.param("stall", marks=pytest.mark.long)])
def test_a_bad_answer_is_asked_for_again(folder: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_folder, "STALLED", 0.3)
    with serving(folder, Faults(**{fault: 0.5})) as server:
        remote = RemoteFolder(server.url)
        begun = time.monotonic()
        for start in range(0, 2000, 200):
            assert remote.read("a.tar", start, start + 200) == CONTENT[start : start + 200]
        assert server.seen[fault] >= 3 and time.monotonic() - begun < 30


def test_waits_grow_and_differ(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_folder, "WAITS", WAITS)
    waits: list[float] = []

    class Recorded(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0)
            return False

    with serving(folder, Faults(fail=1)) as server, pytest.raises(ValueError, match="in 6 tries"):
        RemoteFolder(server.url).read("a.tar", 0, 10, Recorded())
    assert len(waits) == len(WAITS) == 5
    assert all(0.5 * mean <= wait <= 1.5 * mean for wait, mean in zip(waits, WAITS, strict=True))
    assert len({wait / mean for wait, mean in zip(waits, WAITS, strict=True)}) == 5


def test_every_request_fails(folder: Path) -> None:
    with serving(folder, Faults(fail=1)) as server:
        with pytest.raises(ValueError, match=rf"^{server.url}/a.tar could not be read in 6 tries; the last error: .*503.*\.$"):
            RemoteFolder(server.url).read("a.tar", 0, 10)
        assert len(server.requests) == 6


@pytest.mark.parametrize(
    ("status", "sentence"),
    [(401, "Access to .*a.tar was refused"), (403, "Access to .*a.tar was refused"), (404, "There is no .*a.tar")],
)
def test_an_answer_that_will_not_change(folder: Path, status: int, sentence: str) -> None:
    with serving(folder, Faults(fail=1, status=status)) as server:
        for places in ((), (0, 10)):
            with pytest.raises(ValueError, match=rf"^{sentence} .*Check the URL\.$"):
                RemoteFolder(server.url).read("a.tar", *places)
        assert len(server.requests) == 2, "another try is of no use"


def test_a_server_without_ranges(folder: Path) -> None:
    (folder / "large.tar").write_bytes(bytes(20_000_000))
    with serving(folder, Faults(ranges=False, rate=1e6)) as server:
        remote = RemoteFolder(server.url)
        begun = time.monotonic()
        with pytest.raises(NoRangesError):
            remote.read("large.tar", 512, 1024)
        assert time.monotonic() - begun < 10, "the file was read, although it is of no use"
        assert not remote.has_ranges and not pickle.loads(pickle.dumps(remote)).has_ranges
        assert b"".join(remote.stream("a.tar")) == CONTENT
        assert ("/a.tar", "") in server.requests


def test_an_upload_that_fails(folder: Path) -> None:
    remote = RemoteFolder((folder / "a.tar").as_uri())  # a file, in which no other file can be
    sentence = "in 6 tries; the last error: .*; what was written before is kept"
    with pytest.raises(ValueError, match=rf"^file://.*/a.tar/b could not be written {sentence}"):
        remote.write_bytes("b", b"")
    with pytest.raises(ValueError, match=rf"^file://.*/a.tar/b could not be written {sentence}"):
        remote.write("b", folder / "a.tar")
    with pytest.raises(ValueError, match=rf"^file://.*/a.tar/b could not be removed {sentence}"):
        remote.remove("b")


def test_a_stopped_download(folder: Path) -> None:
    stopped = threading.Event()
    stopped.set()
    with pytest.raises(StoppedError):
        RemoteFolder(folder.as_uri()).read("a.tar", 0, 10, stopped)


@pytest.mark.processes
def test_commands(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = PipeFolder(f"pipe:cat {folder}/{{}}")
    assert remote.read("a.tar") == CONTENT == b"".join(remote.stream("a.tar"))
    with pytest.raises(NoRangesError):
        remote.read("a.tar", 0, 10)
    with pytest.raises(ValueError, match=r"^pipe:cat .*/missing .*could not be read in 6 tries.*exit code 1"):
        PipeFolder(f"pipe:cat {folder}/{{}} 2> /dev/null").read("missing")
    monkeypatch.setattr(remote_folder, "STALLED", 0.2)
    begun = time.monotonic()
    with pytest.raises(ValueError, match=r"printed nothing for 0.2 s"):
        PipeFolder("pipe:echo {}; exec sleep 100").read("a.tar")
    assert time.monotonic() - begun < 60
    with pytest.raises(ValueError, match="does not say where the name of a file belongs"):
        PipeFolder("pipe:cat a.tar")


class FakeGs(MemoryFileSystem):
    """Google's storage, in memory, under the name that gcsfs is registered under."""

    protocol = "gs"  # type: ignore[assignment]
    store: ClassVar[dict[str, Any]] = {}

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("gs://").strip("/")

    def __init__(self, requests_timeout: float, **options: Any) -> None:
        assert requests_timeout == remote_folder.STALLED
        super().__init__(**options)


def test_google_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRY, "gs", FakeGs)
    FakeGs(requests_timeout=remote_folder.STALLED, skip_instance_cache=True).pipe_file("gs://bucket/karlo/a.tar", CONTENT)
    remote = RemoteFolder("gs://bucket/karlo")
    assert (remote.read("a.tar"), remote.read("a.tar", 5, 9)) == (CONTENT, CONTENT[5:9])
    with pytest.raises(ValueError, match=r"There is no gs://bucket/karlo/b.tar"):
        remote.read("b.tar")


def test_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub's own file system, with a hub of the test on loopback."""
    import huggingface_hub.constants

    hub = folder.parent / "hub"
    stored = hub / "datasets" / "me" / "pairs" / "resolve" / "main" / "karlo"
    stored.mkdir(parents=True)
    (stored / "a.tar").write_bytes(CONTENT)
    with serving(hub) as server:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": server.url})
        listed = {"type": "file", "path": "karlo/a.tar", "size": len(CONTENT), "oid": "0"}
        server.answers["/api/datasets/me/pairs"] = json.dumps({"id": "me/pairs", "sha": "0"}).encode()
        server.answers["/api/datasets/me/pairs/tree/main/karlo"] = json.dumps([listed]).encode()
        remote = RemoteFolder("hf://datasets/me/pairs/karlo")
        assert (remote.read("a.tar"), remote.read("a.tar", 5, 9)) == (CONTENT, CONTENT[5:9])
        assert server.ranges_of("a.tar")[-1][1] == "bytes=5-8"
        with pytest.raises(ValueError, match=r"There is no hf://.*b.tar.*for a private repository set HF_TOKEN"):
            remote.read("b.tar")


def test_the_hub_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"^hf://datasets/me/pairs/a.tar cannot be read .*HF_HUB_OFFLINE"):
        RemoteFolder("hf://datasets/me/pairs").read("a.tar")


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme, package, extra in (("s3", "s3fs", "s3"), ("gs", "gcsfs", "gcs")):
        monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.delitem(REGISTRY, scheme, raising=False)
        with pytest.raises(ValueError, match=rf"needs a package that is missing.*pip install 'eclipse_pl\[{extra}\]'"):
            RemoteFolder(f"{scheme}://bucket/karlo").read("manifest.json")


def test_an_unknown_protocol() -> None:
    with pytest.raises(ValueError, match=r"^foo://x/a.tar cannot be read: .* Use s3://, gs://, https:// or hf://"):
        RemoteFolder("foo://x").read("a.tar")
