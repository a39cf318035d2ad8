"""Training on a set behind a URL sees the batches of the local folder, whatever the server does."""

from __future__ import annotations

import gc
import os
import pickle
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import webdataset

from data_prep.merge import merge
from data_prep.verify import verify
from eclipse_pl.__main__ import main
from eclipse_pl.data import remote_folder, remote_shards
from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.data.loader import Position, TrainingLoader
from eclipse_pl.data.record_cache import RecordCache
from eclipse_pl.data.remote_shards import Downloads
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.data.text_tower import text_tower_of
from eclipse_pl.embedding import EmbeddingBatch
from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.world.datamodule import WorldDataModule
from tests.helpers.recorder import SaveEverywhere, data_of, epochs_of, fit
from tests.helpers.runs import metrics, write_experiment
from tests.helpers.shard_sets import make_shard_set, make_space, overwrite
from tests.helpers.unreliable_server import Faults, UnreliableServer, serving

pytestmark = pytest.mark.long

SMALL = {"cache_gb": 1e-3, "connections": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shard_set(tmp_path_factory.mktemp("data") / "shards", splits={"train": 70, "val": 20, "test": 11})


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_folder, "WAITS", (0.001,) * len(remote_folder.WAITS))
    monkeypatch.setattr(remote_shards, "POLL", 0.002)


@pytest.fixture()
def server(folder: Path) -> Iterator[UnreliableServer]:
    with serving(folder) as running:
        yield running


def remote_of(url: str, cache: Path, **options: Any) -> EmbeddingDataModule:
    return data_of(url, **{**SMALL, "cache": str(cache), **options})  # type: ignore[arg-type]


def numbers_of(batch: EmbeddingBatch) -> list[torch.Tensor]:
    """Every tensor of a batch."""
    text, negative, group = batch.text, batch.negative_embed, batch.group
    assert group is not None
    tensors = [text.text_embed, text.text_states, text.lengths, batch.image_embed, batch.index, group]
    return tensors if negative is None else [*tensors, negative.nan_to_num(7)]


def require_same(ours: list[EmbeddingBatch], theirs: list[EmbeddingBatch]) -> None:
    assert len(ours) == len(theirs) > 0
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.captions, mine.keys, mine.subsets) == (other.captions, other.keys, other.subsets)
        for number, tensor in zip(numbers_of(mine), numbers_of(other), strict=True):
            assert torch.equal(number, tensor)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.processes)])
@pytest.mark.parametrize("group_by_length", [True, False])
def test_the_same_batches(folder: Path, server: UnreliableServer, tmp_path: Path, workers: int, group_by_length: bool) -> None:
    options = {"group_by_length": group_by_length, "pairs": 60}
    remote = remote_of(server.url, tmp_path, workers=workers, **options)
    require_same(list(epochs_of(remote, 3)), list(epochs_of(data_of(folder, **options), 3)))
    ranges = server.ranges_of(".tar")
    assert len(ranges) == len(set(ranges)) <= 5, "each training record is downloaded once"
    assert len(remote.train_dataloader()) == len(data_of(folder, **options).train_dataloader())
    for split in ("val", "test"):
        require_same(*(list(getattr(data, f"{split}_dataloader")()) for data in (remote, data_of(folder, **options))))
    require_same(list(remote.single_pass(with_states=True)), list(data_of(folder, **options).single_pass(with_states=True)))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("download")]


def test_a_merged_set_whose_shards_have_records_of_one_name(tmp_path: Path) -> None:
    sets = [make_shard_set(tmp_path / str(seed), pairs=40, seed=seed) for seed in (0, 1)]
    merged = tmp_path / "merged"
    merge([str(folder) for folder in sets], str(merged), anyway=True)
    assert len({entry.key for entry in ShardSet(merged).entries}) < len(ShardSet(merged).entries)
    remote = remote_of(f"file://{merged}", tmp_path / "c")
    require_same(list(epochs_of(remote, 2)), list(epochs_of(data_of(merged), 2)))


def test_the_same_batches_from_s3(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import logging

    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    bucket = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    bucket.start()
    try:
        host, port = bucket.get_host_and_port()
        credentials = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
        settings = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
        for name, value in {**credentials, **settings, "AWS_EC2_METADATA_DISABLED": "true"}.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="bucket")
        for path in folder.iterdir():
            client.upload_file(str(path), "bucket", f"karlo/{path.name}")
        remote = remote_of("s3://bucket/karlo", tmp_path)
        require_same(list(epochs_of(remote, 2)), list(epochs_of(data_of(folder), 2)))
        require_same(list(remote.val_dataloader()), list(data_of(folder).val_dataloader()))
        with pytest.raises(ValueError, match=r"^There is no s3://bucket/other/manifest.json .* `python -m data_prep embed"):
            ShardSet("s3://bucket/other")
        for name in credentials:
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
        with pytest.raises(
            ValueError, match=r"^Access to s3://bucket/karlo/manifest.json was refused .*Set AWS_ACCESS_KEY_ID"
        ):
            ShardSet("s3://bucket/karlo")
    finally:
        bucket.stop()


def test_ten_epochs_of_a_server_that_fails_at_times(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One request in a hundred fails; the cache holds a part of the set, so that every epoch downloads records."""
    monkeypatch.setattr(remote_folder, "STALLED", 0.3)
    many = make_shard_set(tmp_path / "many", splits={"train": 640}, chunk=8, records_per_shard=10)
    shards = 0.01 / 4
    faults = Faults(fail=shards, stall=shards, truncate=shards, corrupt=shards, stall_seconds=0.5, only=".tar")
    with serving(many, faults) as server:
        options = {"window": 2, "batch_size": 16}
        remote = remote_of(server.url, tmp_path / "c", ahead=2, cache_gb=16 * 5_500 / 1e9, **options)
        require_same(list(epochs_of(remote, 10)), list(epochs_of(data_of(many, **options), 10)))
        assert len(server.requests) > 500 and server.seen["good"] < len(server.requests) - 2
        assert RecordCache(tmp_path / "c", 1.0).used <= 16 * 5_500


@pytest.mark.parametrize(
    ("faults", "sentence"),
    [
        (Faults(fail=1), r"^http://127.0.0.1:\d+/manifest.json could not be read in 6 tries; the last error: .*503"),
        (Faults(fail=1, only=".tar"), r"^http://127.0.0.1:\d+/000\d.tar could not be read in 6 tries; the last error: .*503"),
        (
            Faults(corrupt=1, only=".tar"),
            r"^The record 000\d_0000\d of the shard http://.*/000\d.tar arrived 4 times with other",
        ),
    ],
)
@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.processes)])
def test_a_bucket_that_never_answers_well(folder: Path, tmp_path: Path, faults: Faults, sentence: str, workers: int) -> None:
    with serving(folder, faults) as server:
        remote = remote_of(server.url, tmp_path, workers=workers)
        with pytest.raises(ValueError, match=rf"{sentence}[^\n]*$"):
            list(remote.train_dataloader())
        remote.teardown("fit")


def test_a_server_without_ranges_sends_each_shard_once(folder: Path, tmp_path: Path) -> None:
    with serving(folder, Faults(ranges=False)) as server:
        require_same(list(epochs_of(remote_of(server.url, tmp_path / "c"), 2)), list(epochs_of(data_of(folder), 2)))
        whole = [path for path, asked in server.ranges_of(".tar") if not asked]
        assert len(whole) == len(set(whole)) == 2
        small = remote_of(server.url, tmp_path / "d", window=1, ahead=1, cache_gb=6e-5)
        with pytest.raises(ValueError, match=r"sends whole files only.* the cache must hold the whole set"):
            list(small.train_dataloader())
        small.teardown("fit")
    with serving(folder, Faults(ranges=False, corrupt=0.3, truncate=0.3, only=".tar")) as server:
        require_same(list(epochs_of(remote_of(server.url, tmp_path / "e"), 1)), list(epochs_of(data_of(folder), 1)))


@pytest.mark.processes
def test_a_command(folder: Path, tmp_path: Path) -> None:
    remote = remote_of(f"pipe:cat {folder}/{{}}", tmp_path)
    require_same(list(epochs_of(remote, 2)), list(epochs_of(data_of(folder), 2)))


def test_a_run_resumed_anywhere(folder: Path, server: UnreliableServer, tmp_path: Path) -> None:
    whole = fit(data_of(folder), max_epochs=2).seen
    assert fit(remote_of(server.url, tmp_path / "c"), callbacks=[SaveEverywhere(tmp_path)], max_epochs=2).seen == whole
    for done in (3, 8, 11):
        remote = remote_of(server.url, tmp_path / f"cache{done}")
        assert fit(remote, tmp_path / f"step{done}.ckpt", max_epochs=2).seen == whole[done:]


@pytest.mark.processes
def test_two_ranks_share_the_cache(folder: Path, server: UnreliableServer, tmp_path: Path) -> None:
    server.faults.latency = 0.02  # both want the same records at the same time
    loaders = []
    for rank in (0, 1):
        data = remote_of(server.url, tmp_path, batch_size=4)
        loaders.append(TrainingLoader(data.shards, data.training_order(2), Position(), rank, workers=1))
    halves = list(zip(*loaders, strict=True))
    for loader in loaders:
        loader.close()
    server.faults.latency = 0
    whole = [batch.index.tolist() for batch in epochs_of(data_of(folder), 1)]
    assert [sorted([*a.index.tolist(), *b.index.tolist()]) for a, b in halves] == whole
    ranges = server.ranges_of(".tar")
    assert len(ranges) == len(set(ranges)), "no record was downloaded by both"


@pytest.mark.processes
def test_a_cache_of_a_tenth_of_the_data(tmp_path: Path) -> None:
    """Two runs with an order each share a cache that holds the records in use and no more."""
    many = make_shard_set(tmp_path / "many", splits={"train": 1600}, chunk=8, records_per_shard=20)
    local = ShardSet(many)
    limit = sum(shard.bytes for shard in local.manifest.shards) // 10
    options: dict[str, Any] = {"window": 1, "ahead": 2, "batch_size": 16, "cache_gb": limit / 1e9}
    cache, most, done = RecordCache(tmp_path / "c", 1.0), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            most[0] = max(most[0], cache.used if (cache.folder / ".used").exists() else 0)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    with serving(many) as server:
        runs = [remote_of(server.url, cache.folder, seed=seed, workers=1, **options) for seed in (0, 1)]
        both = list(zip(*[run.train_dataloader() for run in runs], strict=True))
        for run in runs:
            run.teardown("fit")
    done.set()
    watcher.join()
    for seed, batches in enumerate(zip(*both, strict=True)):
        require_same(list(batches), list(epochs_of(data_of(many, seed=seed, window=1, batch_size=16), 1)))
    assert 0.5 * limit < most[0] <= limit


def test_records_are_downloaded_ahead_and_not_further(tmp_path: Path) -> None:
    many = make_shard_set(tmp_path / "s", pairs=160, chunk=8)
    with serving(many) as server:
        remote = remote_of(server.url, tmp_path / "c", window=2, ahead=5)
        batches = iter(remote.train_dataloader())
        next(batches)
        wanted = [
            remote.shards.entries[number] for number, _ in zip(remote.training_order(1).records(0), range(7), strict=False)
        ]
        deadline = time.monotonic() + 60
        while len(server.ranges_of(".tar")) < 7 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        asked = {asked for _, asked in server.ranges_of(".tar")}
        assert asked == {f"bytes={first}-{end - 1}" for first, end in (entry.span for entry in wanted)}
        remote.teardown("fit")
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("download")]


def test_the_cache_is_kept_for_the_next_run(folder: Path, server: UnreliableServer, tmp_path: Path) -> None:
    list(epochs_of(remote_of(server.url, tmp_path), 1))
    before, expected = len(server.ranges_of(".tar")), list(epochs_of(data_of(folder), 1))
    require_same(list(epochs_of(remote_of(server.url, tmp_path), 1)), expected)
    assert len(server.ranges_of(".tar")) == before
    paths = [path for path in tmp_path.iterdir() if path.name != ".used"]
    os.truncate(paths[0], 100)
    content = bytearray(paths[1].read_bytes())
    content[200:210] = bytes(10)
    paths[1].write_bytes(content)
    require_same(list(epochs_of(remote_of(server.url, tmp_path), 1)), expected)
    assert len(server.ranges_of(".tar")) == before + 2, "a truncated and a damaged record are downloaded again"


def test_two_spaces_share_a_cache(folder: Path, server: UnreliableServer, tmp_path: Path) -> None:
    other = make_shard_set(tmp_path / "other", pairs=70, space=make_space(name="other"), seed=1)
    with serving(other) as second:
        for url, local in ((server.url, folder), (second.url, other), (server.url, folder)):
            require_same(list(epochs_of(remote_of(url, tmp_path / "c"), 1)), list(epochs_of(data_of(local), 1)))


def test_an_open_set_is_sent_to_another_process(folder: Path, server: UnreliableServer, tmp_path: Path) -> None:
    shards = ShardSet(server.url, downloads=Downloads(cache=str(tmp_path)))
    shards.read_chunk(0)
    server.requests.clear()
    copy = pickle.loads(pickle.dumps(shards))
    assert len(pickle.dumps(shards)) < 20_000
    np.testing.assert_array_equal(copy.read_chunk(0).image_embed, ShardSet(folder).read_chunk(0).image_embed)
    assert server.requests == [], "manifest and space travel with it, the record lies in the cache"


@pytest.mark.processes
@pytest.mark.skipif(shutil.which("curl") is None, reason="webdataset reads http by curl")
def test_webdataset_reads_the_same_shards(folder: Path, server: UnreliableServer) -> None:
    """The documented alternative for loops of one's own: a plain stream."""
    local = ShardSet(folder)
    urls = f"{server.url}/{{0000..{len(local.manifest.shards) - 1:04d}}}.tar"
    stream = webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).decode()
    samples = list(stream)
    assert len(samples) == len(local.entries)
    for record, sample in enumerate(samples):
        chunk = local.read_chunk(record)
        np.testing.assert_array_equal(sample["image_embed.npy"], chunk.image_embed)
        np.testing.assert_array_equal(sample["text_states.npy"], chunk.text_states)
        assert sample["captions.json"]["captions"] == chunk.captions


def test_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole command, from the URL to the metrics of the last step."""
    for name in ("local", "remote", "failing"):
        (tmp_path / name).mkdir()
    experiments = {"local": write_experiment(tmp_path / "local")}
    with serving(tmp_path / "local" / "shards") as server:
        options = {"data__init_args__folder": f"{server.url}/?key=secret", "data__init_args__cache": str(tmp_path / "cache")}
        for name in ("remote", "failing"):
            experiments[name] = write_experiment(tmp_path / name, **options)
        assert [main(["fit", "--config", str(experiments[name])]) for name in ("local", "remote")] == [0, 0]
        local, remote = (next((tmp_path / name / "runs" / "tiny").glob("*")) for name in ("local", "remote"))
        assert metrics(local) == metrics(remote) and len(metrics(local)) >= 10
        # the query of a URL may be a secret: only the config, which repeats the run, has it
        held = {path.name for path in remote.rglob("*") if path.is_file() and b"secret" in path.read_bytes()}
        assert held == {"config.yaml"} and server.url in (remote / "latent.json").read_text()
        server.faults.fail = 1
        told = capsys.readouterr()
        assert "secret" not in told.out + told.err
        assert main(["fit", "--config", str(experiments["failing"])]) != 0
        errors = capsys.readouterr().err
        assert f"{server.url}/manifest.json could not be read in 6 tries; the last error: " in errors
        assert "Traceback" not in errors and "secret" not in errors


# ---- what bad input gets


def test_options_without_effect(folder: Path) -> None:
    for option in ({"cache": "c"}, {"cache_gb": 1.0}, {"ahead": 3}, {"connections": 2}):
        (name,) = option
        with pytest.raises(ValueError, match=rf"^data.{name} is .*, but data.folder .* is a local folder"):
            data_of(folder, **option)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"cache_gb": 0.0}, "data.cache_gb is 0.0; it must be more than 0"),
        ({"cache_gb": float("nan")}, "data.cache_gb is nan; it must be more than 0"),
        ({"ahead": 0}, "data.ahead is 0; it must be 1 or more"),
        ({"connections": 0}, "data.connections is 0; it must be 1 or more"),
    ],
)
def test_options_out_of_range(option: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        EmbeddingDataModule("https://host/karlo", **option)


def test_a_cache_that_is_too_small(server: UnreliableServer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data.cache_gb is 2e-05, but up to 14 records of http.* take .* GB\. Set"):
        _ = remote_of(server.url, tmp_path, cache_gb=2e-5).shards


def test_a_check_of_every_byte(server: UnreliableServer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data.check is sha256.*Use size or record"):
        _ = remote_of(server.url, tmp_path, check="sha256").shards
    assert len(list(epochs_of(remote_of(server.url, tmp_path, check="record"), 1))) == 8


def test_no_set_there(server: UnreliableServer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^There is no http.*/other/manifest.json .*A set of shards is a folder with"):
        _ = remote_of(f"{server.url}/other", tmp_path).shards


def test_a_manifest_that_arrives_in_part(folder: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(folder, tmp_path / "copied"))
    whole = (folder / "manifest.json").read_bytes()
    (copied / "manifest.json").write_bytes(whole[: len(whole) // 2])
    with (
        serving(copied) as server,
        pytest.raises(ValueError, match=r"/manifest.json is not JSON .*made the set again") as error,
    ):
        _ = remote_of(f"{server.url}?key=secret", tmp_path / "c").shards
    assert "\n" not in str(error.value) and "secret" not in str(error.value)


def test_no_message_holds_the_query_of_a_url(tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    with serving(make_shard_set(tmp_path / "s", pairs=16)) as server:
        data = remote_of(f"{server.url}?key=secret", tmp_path / "c")
        assert data.shards.name == server.url
        with pytest.raises(ValueError, match=rf"^{server.url} has no pairs in the split 'val'"):
            data.val_dataloader()
        with pytest.raises(ValueError, match=rf"but {server.url} holds token states"):
            text_tower_of(data.shards, clip_encoder)
    for url in ("https://host/set?key=secret", "pipe:curl https://host/{}?key=secret"):
        with pytest.raises(ValueError, match="https://host") as error:
            verify([url])
        assert "secret" not in str(error.value)


def test_damage_that_the_manifest_does_not_know(tmp_path: Path) -> None:
    folder = make_shard_set(tmp_path / "s", pairs=16)
    overwrite(folder, 0, "image_embed.npy", b"no array")
    with serving(folder) as server:
        remote = remote_of(server.url, tmp_path / "c")
        with pytest.raises(ValueError, match=r"0000.tar arrived 4 times with other bytes.* Repair the set"):
            list(remote.train_dataloader())
        remote.teardown("fit")


def test_a_loader_that_nobody_closes_ends_its_downloads(server: UnreliableServer, tmp_path: Path) -> None:
    before = {thread for thread in threading.enumerate() if thread.name.startswith("download")}
    remote = remote_of(server.url, tmp_path)
    next(iter(remote.train_dataloader()))
    assert {thread for thread in threading.enumerate() if thread.name.startswith("download")} > before
    del remote
    gc.collect()
    assert {thread for thread in threading.enumerate() if thread.name.startswith("download")} <= before


def test_the_world_is_made_in_a_local_folder() -> None:
    with pytest.raises(ValueError, match=r"s3://bucket/world, but WorldDataModule makes its shards"):
        WorldDataModule("s3://bucket/world")


def test_verify_reads_local_folders() -> None:
    with pytest.raises(ValueError, match=r"^s3://bucket/karlo is a URL, and `verify` reads local folders"):
        verify(["s3://bucket/karlo"])
