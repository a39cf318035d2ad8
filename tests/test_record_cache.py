from __future__ import annotations

import errno
import mmap
import multiprocessing
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from eclipse_pl.data import record_cache
from eclipse_pl.data.manifest import RecordEntry
from eclipse_pl.data.record_cache import CacheError, FullError, RecordCache
from eclipse_pl.data.shard_set import ShardSet
from tests.helpers.shard_sets import make_shard_set

Stored = tuple[RecordEntry, bytes]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Stored]:
    """Records of nearly one size, with their bytes."""
    folder = make_shard_set(tmp_path_factory.mktemp("set") / "s", pairs=160, tokens=(9, 9))
    content = {shard.name: (folder / shard.name).read_bytes() for shard in ShardSet(folder).manifest.shards}
    return [
        (entry, content[shard.name][slice(*entry.span)])
        for shard in ShardSet(folder).manifest.shards
        for entry in shard.records
    ]


def add(cache: RecordCache, stored: Stored) -> mmap.mmap:
    entry, content = stored
    claim = cache.claim(entry)
    assert claim is not None
    with claim:
        claim.write(content)
        memory = claim.finish()
    assert memory is not None and memory[:] == content
    return memory


def size_of(stored: Stored) -> int:
    return len(stored[1])


def cache_of(folder: Path, records: list[Stored], count: float) -> RecordCache:
    return RecordCache(folder, count * max(map(size_of, records)) / 1e9)


def test_a_record_comes_back(tmp_path: Path, records: list[Stored]) -> None:
    cache = cache_of(tmp_path / "deep" / "cache", records, 10)
    assert cache.open(records[0][0]) is None
    add(cache, records[0])
    for other in (cache, RecordCache(cache.folder, 1.0)):
        memory = other.open(records[0][0])
        assert memory is not None and memory[:] == records[0][1]
    assert cache.claim(records[0][0]) is None, "there is nothing to download"
    assert cache.used == size_of(records[0])


@pytest.mark.parametrize("damage", ["truncated", "changed", "empty"])
def test_a_damaged_file_is_found(tmp_path: Path, records: list[Stored], damage: str) -> None:
    add(cache_of(tmp_path, records, 10), records[0])
    cache = cache_of(tmp_path, records, 10)  # of another process
    path, content = cache.path(records[0][0]), records[0][1]
    place = records[0][0].members["text_embed.npy"][0] + 200 - records[0][0].span[0]
    changed = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    path.write_bytes({"truncated": content[:-1], "changed": changed, "empty": b""}[damage])
    assert cache.open(records[0][0]) is None and not path.exists()
    add(cache, records[0])


def test_other_bytes_do_not_enter(tmp_path: Path, records: list[Stored]) -> None:
    cache = cache_of(tmp_path, records, 10)
    claim = cache.claim(records[0][0])
    assert claim is not None
    with claim:
        claim.write(bytes(size_of(records[0])))
        assert claim.finish() is None
        claim.restart()
        claim.write(records[0][1])
        assert claim.finish() is not None
    with cache.claim(records[1][0]) or pytest.fail("no claim") as claim:
        claim.write(b"the first bytes only")
    assert cache.open(records[1][0]) is None and cache.used == size_of(records[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([".used", cache.path(records[0][0]).name])


def test_the_least_recently_used_record_goes_first(tmp_path: Path, records: list[Stored]) -> None:
    cache = cache_of(tmp_path, records, 3.5)
    for number in (0, 1, 2):
        add(cache, records[number])
        os.utime(cache.path(records[number][0]), ns=(number, number))
    assert cache.open(records[0][0])  # used again, and closed
    add(cache, records[3])
    assert [bool(cache.open(entry)) for entry, _ in records[:4]] == [True, False, True, True]
    assert cache.used <= cache.limit


def test_a_record_in_use_is_not_removed(tmp_path: Path, records: list[Stored]) -> None:
    cache = cache_of(tmp_path, records, 2)
    used = [add(cache, records[0]), add(cache, records[1])]
    other = cache_of(tmp_path, records, 2)
    with pytest.raises(FullError, match=r"no room for a record of .* Set data.cache_gb to more"):
        other.claim(records[2][0])
    assert used[0][:] == records[0][1] and cache.used <= cache.limit
    del used[0]
    add(other, records[2])
    assert cache.open(records[0][0]) is None and used[0][:] == records[1][1]


def test_files_of_others_stay(tmp_path: Path, records: list[Stored]) -> None:
    (tmp_path / "thesis.tex").write_bytes(bytes(10 * size_of(records[0])))
    (tmp_path / "0000.tar").write_text("mine")
    cache = cache_of(tmp_path, records, 2)
    for stored in records:
        add(cache, stored)
    assert (tmp_path / "thesis.tex").exists() and (tmp_path / "0000.tar").exists()
    assert 0 < cache.used <= cache.limit


@pytest.mark.parametrize("written", [b"", b"garbage", b"0", b"99999999999999"])
def test_the_count_of_bytes_is_corrected(tmp_path: Path, records: list[Stored], written: bytes) -> None:
    """Killed processes leave a count that is too large; nothing leaves one too small but who edits it."""
    cache = cache_of(tmp_path, records, 4)
    for stored in records[:3]:
        add(cache, stored)
    (tmp_path / ".used").write_bytes(written)
    for stored in records[3:]:
        add(cache, stored)
        assert cache.used <= cache.limit or written == b"0"
    assert cache.used <= cache.limit


def test_one_set_in_two_layouts(tmp_path: Path, records: list[Stored]) -> None:
    """The same content at other offsets is another file, so that no reader takes one for the other."""
    entry, content = records[0]
    later = RecordEntry(
        **{**entry.__dict__, "members": {name: (at + 512, size) for name, (at, size) in entry.members.items()}}
    )
    wider = RecordEntry(**{**entry.__dict__, "members": {name: (2 * at, size) for name, (at, size) in entry.members.items()}})
    cache = cache_of(tmp_path, records, 4)
    add(cache, (entry, content))
    assert cache.path(later) == cache.path(entry) != cache.path(wider)
    memory = cache.open(later)
    assert memory is not None and later.is_whole(memory, later.span[0])
    assert cache.open(wider) is None


@pytest.mark.parametrize("failing", ["open", "ftruncate"])
def test_a_disk_that_cannot_be_written(
    tmp_path: Path, records: list[Stored], failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = cache_of(tmp_path, records, 4)
    add(cache, records[0])

    def fail(*_: Any) -> None:
        raise OSError(errno.EROFS if failing == "open" else errno.ENOSPC, os.strerror(errno.EROFS))

    monkeypatch.setattr(record_cache.os, failing, fail)
    with pytest.raises(CacheError, match=r"^The cache .* cannot be used \(.*\)\. Free some space, or set data.cache to"):
        cache.claim(records[1][0])
    monkeypatch.undo()
    assert cache.open(records[0][0]), "what is there is served"
    add(cache, records[1])


def test_a_disk_that_is_full_in_the_middle(tmp_path: Path, records: list[Stored], monkeypatch: pytest.MonkeyPatch) -> None:
    cache = cache_of(tmp_path, records, 4)
    claim = cache.claim(records[0][0])
    assert claim is not None

    class Full:
        closed = False

        def write(self, block: bytes) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = claim._file
    with pytest.raises(CacheError, match="No space left on device"), claim:
        claim._file = Full()  # type: ignore[assignment]
        try:
            claim.write(b"some")
        finally:
            claim._file = file
    assert cache.used == 0


def test_a_cache_in_a_file(tmp_path: Path, records: list[Stored]) -> None:
    (tmp_path / "file").write_text("no folder")
    cache = cache_of(tmp_path / "file" / "cache", records, 4)
    assert cache.open(records[0][0]) is None
    with pytest.raises(CacheError, match="cannot be used"):
        cache.claim(records[0][0])


def test_one_thread_downloads_a_record(tmp_path: Path, records: list[Stored]) -> None:
    cache, claims, start = cache_of(tmp_path, records, 10), [], threading.Barrier(8)

    def get() -> None:
        start.wait()
        if claim := cache.claim(records[0][0]):
            with claim:
                claims.append(claim)
                time.sleep(0.05)
                claim.write(records[0][1])
                assert claim.finish()

    threads = [threading.Thread(target=get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claims) == 1 and cache.open(records[0][0])


def hold(cache: RecordCache, entry: RecordEntry, ready: Any) -> None:
    claim = cache.claim(entry)
    assert claim is not None
    claim.write(b"begun")
    ready.set()
    time.sleep(60)


@pytest.mark.processes
def test_a_killed_download_is_taken_over(tmp_path: Path, records: list[Stored]) -> None:
    cache = cache_of(tmp_path, records, 1.5)
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=hold, args=(cache, records[0][0], ready))
    process.start()
    assert ready.wait(60)
    assert cache.claim(records[0][0]) is None, "it is at it"
    with pytest.raises(FullError):
        cache.claim(records[1][0])  # its room is taken
    process.kill()
    process.join()
    add(cache, records[0])
    with cache.claim(records[1][0]) or pytest.fail("no claim"):
        assert cache.used <= cache.limit


@pytest.mark.processes
def test_a_process_that_was_forked_holds_no_lock(tmp_path: Path, records: list[Stored]) -> None:
    """A fork copies open files, and a flock lasts as long as any copy. Here nobody downloads in the new process."""
    cache = cache_of(tmp_path, records, 4)
    claim = cache.claim(records[0][0])
    assert claim is not None
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    with cache._used():
        process.start()
    claim.abort()
    try:
        add(cache, records[0])
    finally:
        process.kill()
        process.join()
