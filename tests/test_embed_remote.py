from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_prep.__main__ import main
from eclipse_pl.data import remote_folder
from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.embed.written_set import work_folder
from eclipse_pl.encoders.openclip import OpenClipEncoder
from tests.helpers.raw_sets import contents, embed, raw_set, sample, write_tar
from tests.helpers.s3_server import s3_bucket
from tests.test_embed_folder import Stopping

OPTIONS: dict[str, Any] = {"val": 0.2, "test": 0.1}


def stored(client: Any, prefix: str) -> dict[str, bytes]:
    """All objects below a prefix."""
    found = client.list_objects_v2(Bucket="data", Prefix=prefix).get("Contents", [])
    return {one["Key"].removeprefix(prefix): client.get_object(Bucket="data", Key=one["Key"])["Body"].read() for one in found}


@pytest.mark.processes
@pytest.mark.long
def test_a_set_is_written_to_s3_resumed_and_read(
    tmp_path: Path, clip_folder: Path, clip_encoder: OpenClipEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    sources = raw_set(tmp_path / "raw", tars=4)
    local = embed(sources, clip_encoder, tmp_path / "local", **OPTIONS)
    with s3_bucket("data", monkeypatch) as client:
        stopping = Stopping(f"local-dir:{clip_folder}", None, device="cpu", stop_at=6)
        with pytest.raises(RuntimeError, match="stopped here"):
            embed(sources, stopping, "s3://data/sets/mine", **OPTIONS)
        before = stored(client, "sets/mine/")
        finished = {name for name in before if name.endswith(".tar")}
        assert finished and len(finished) < 4 and {f"{name}.json" for name in finished} < before.keys()
        assert "manifest.json" not in before
        assert not list(work_folder("s3://data/sets/mine").glob("*.tar")), "finished shards are not kept on this machine"
        for path in work_folder("s3://data/sets/mine").iterdir():  # another machine resumes
            path.unlink()
        reads: list[int] = []

        class Counting(OpenClipEncoder):
            def encode_images(self, pixels: Any) -> Any:
                reads.append(len(pixels))
                return super().encode_images(pixels)

        counting = Counting(f"local-dir:{clip_folder}", None, device="cpu")
        assert embed(sources, counting, "s3://data/sets/mine", **OPTIONS) == local
        assert sum(reads) - 1 == 6 * (4 - len(finished)), "one for the space, and the pairs of unfinished shards"
        theirs = {name: content for name, content in contents(tmp_path / "local").items() if not name.endswith(".lock")}
        assert stored(client, "sets/mine/") == theirs
        client.delete_object(Bucket="data", Key="sets/mine/0002.tar")
        assert embed(sources, clip_encoder, "s3://data/sets/mine", **OPTIONS) == local
        assert stored(client, "sets/mine/") == theirs
        data = EmbeddingDataModule(
            "s3://data/sets/mine", batch_size=2, workers=0, cache=str(tmp_path / "records"), cache_gb=1.0
        )
        assert len(data.train_dataloader()) == local.splits["train"] // 2 and len(list(data.train_dataloader())) > 0
        for tar in (0, 1):
            write_tar(tmp_path / "raw" / f"{tar:04d}.tar", {f"{tar}{pair:03d}": sample(100 + pair) for pair in range(7)})
        stopping.stop_at = 6
        with pytest.raises(RuntimeError, match="stopped here"):
            embed(sources, stopping, "s3://data/sets/mine", **OPTIONS)
        left = stored(client, "sets/mine/")
        assert left["0000.tar"] != theirs["0000.tar"] and "manifest.json" not in left, "it holds shards of two states"
        assert {f"000{number}.tar.json" for number in range(4)} <= left.keys()
        changed = embed(sources, clip_encoder, tmp_path / "changed", **OPTIONS)
        assert embed(sources, clip_encoder, "s3://data/sets/mine", **OPTIONS) == changed != local
        theirs = {name: content for name, content in contents(tmp_path / "changed").items() if not name.endswith(".lock")}
        assert stored(client, "sets/mine/") == theirs


@pytest.mark.processes
def test_places_that_cannot_be_written(
    tmp_path: Path, clip_encoder: OpenClipEncoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote_folder, "WAITS", (0.0, 0.0))
    source = str(write_tar(tmp_path / "raw.tar", {"1": sample(1), "2": sample(2)}))
    with s3_bucket("data", monkeypatch) as client:
        client.put_object(Bucket="data", Key="raw/0000.tar", Body=b"a raw tar")
        with pytest.raises(ValueError, match=r"already holds 0000.tar, not made by this command"):
            embed([source], clip_encoder, "s3://data/raw")
        assert stored(client, "raw/") == {"0000.tar": b"a raw tar"}
        with pytest.raises(ValueError, match=r"s3://nothing/set"):
            embed([source], clip_encoder, "s3://nothing/set")
    with pytest.raises(ValueError, match=r"tries; the last error: .*Start the command again"):
        embed([source], clip_encoder, "s3://data/set")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    words = ["--encoder", "eclipse_pl.world.encoder.WorldEncoder", "--workers", "0"]
    assert main(["embed", "--source", source, "--out", "https://127.0.0.1:9/set", *words]) == 2
    assert "127.0.0.1:9/set" in capsys.readouterr().err
