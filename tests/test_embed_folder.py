from __future__ import annotations

import json
import resource
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from jaxtyping import Float
from torch import Tensor

from data_prep.__main__ import main
from data_prep.verify import verify
from eclipse_pl.data.manifest import Manifest
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.embed.folder import finished_shards, only_run
from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.launch.share import Share
from tests.helpers.raw_sets import contents, embed, image_bytes, raw_set, sample, write_tar
from tests.helpers.runs import started
from tests.helpers.tiny_open_clip import write_open_clip


class Stopping(OpenClipEncoder):
    """Raises at the n-th batch of images, as a machine without memory does."""

    def __init__(self, *args: Any, stop_at: int, error: type[BaseException] = RuntimeError, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stop_at, self.error = stop_at, error

    def encode_images(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        self.stop_at -= 1
        if self.stop_at < 0:
            raise self.error("stopped here")
        return super().encode_images(pixels)


@pytest.mark.long
def test_stopped_anywhere_and_started_again(tmp_path: Path, clip_folder: Path, clip_encoder: OpenClipEncoder) -> None:
    sources = raw_set(tmp_path / "raw")
    embed(sources, clip_encoder, tmp_path / "whole")
    kept, stopping = [], Stopping(f"local-dir:{clip_folder}", None, device="cpu", stop_at=0)
    for stop_at in range(11):  # the space takes one batch, each of the three sources three
        out = tmp_path / f"stopped_{stop_at}"
        stopping.stop_at, stopping.error = stop_at, (RuntimeError, KeyboardInterrupt)[stop_at % 2]
        if stop_at < 10:
            with pytest.raises((RuntimeError, KeyboardInterrupt), match="stopped here"):
                embed(sources, stopping, out)
            assert not list(out.glob("*.partial")) and not (out / "manifest.json").exists()
            kept.append(len(list(out.glob("*.tar"))))
            before = {path.name: path.stat().st_ino for path in out.glob("*.tar")}
            embed(sources, clip_encoder, out)
            assert all((out / name).stat().st_ino == inode for name, inode in before.items())
        else:
            embed(sources, stopping, out)
        assert contents(out) == contents(tmp_path / "whole")
    assert kept == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]


class Interrupted(Stopping):
    """Somebody types Ctrl-C at the sixth batch."""

    def __init__(self, model: str) -> None:
        super().__init__(model, None, device="cpu", stop_at=5, error=KeyboardInterrupt)


@pytest.mark.long
def test_ctrl_c_ends_in_one_sentence(tmp_path: Path, clip_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources, out = raw_set(tmp_path / "raw"), tmp_path / "shards"
    args = ["embed", "--source", *sources, "--out", str(out), "--batch-size", "3", "--workers", "0"]
    with pytest.raises(SystemExit) as left:
        main([*args, "--encoder", "tests.test_embed_folder.Interrupted", "--encoder.model", f"local-dir:{clip_folder}"])
    assert left.value.code == 130
    assert "The finished shards are kept: run the same command again" in capsys.readouterr().err
    assert any(finding.wrong and "The set is not finished" in finding.found for finding in verify([str(out)]))
    again = ["--encoder.model", f"local-dir:{clip_folder}", "--encoder.pretrained", "null"]
    assert main([*args, *again]) == 0
    assert "0000.tar" not in capsys.readouterr().out, "it was finished before"


@pytest.mark.processes
def test_killed_and_started_again(tmp_path: Path, clip_folder: Path, clip_encoder: OpenClipEncoder) -> None:
    """The process kills itself (-9) in the middle of the third shard, beside its decoding worker."""
    sources, killed = raw_set(tmp_path / "raw", tars=4), tmp_path / "killed"
    script = f"""
import os
import signal
from pathlib import Path

import torch

from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.launch.share import Share
from tests.helpers.raw_sets import embed

class Killed(OpenClipEncoder):
    begun = 0

    def encode_images(self, pixels):
        self.begun += len(list(Path({str(killed)!r}).glob("*.tar.json"))) == 2
        if self.begun == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode_images(pixels)

torch.set_num_threads(1)
embed({sources!r}, Killed({f"local-dir:{clip_folder}"!r}, None, device="cpu"), Path({str(killed)!r}), workers=1)
"""
    words = [sys.executable, "-c", script]
    with started(words, cwd=Path(__file__).parents[1], stdout=subprocess.DEVNULL) as process:
        assert process.wait(timeout=600) == -signal.SIGKILL
    assert sorted(finished_shards(killed)) == ["0000.tar", "0001.tar"] and not (killed / "manifest.json").exists()
    embed(sources, clip_encoder, killed)
    embed(sources, clip_encoder, tmp_path / "whole")
    assert contents(killed) == contents(tmp_path / "whole")


def damage_missing(path: Path) -> None:
    path.unlink()


def damage_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-700])


def damage_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.long
@pytest.mark.parametrize("name", ["0001.tar", "manifest.json", "space.safetensors"])
@pytest.mark.parametrize("damage", [damage_missing, damage_cut, damage_byte])
def test_run_again_it_repairs_what_is_damaged_alone(
    tmp_path: Path, clip_encoder: OpenClipEncoder, name: str, damage: Callable[[Path], None]
) -> None:
    sources, out = raw_set(tmp_path / "raw"), tmp_path / "shards"
    embed(sources, clip_encoder, out)
    whole = contents(out)
    assert Manifest.load(out).space_sha256 == sha256((out / "space.safetensors").read_bytes()).hexdigest()
    if name == "manifest.json" and damage is not damage_missing:
        (out / name).write_bytes(b'{"schema": 1, "spa')
    else:
        damage(out / name)
    before = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.iterdir()}
    embed(sources, clip_encoder, out)
    assert contents(out) == whole
    touched = {path.name for path in out.iterdir() if before.get(path.name) != (path.stat().st_ino, path.stat().st_mtime_ns)}
    if name == "manifest.json":  # with it went all that vouched for the shards
        assert name in touched and "space.safetensors" not in touched
    else:
        assert touched == {name}


def test_a_finished_set_is_left_alone(tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    sources, out = raw_set(tmp_path / "raw"), tmp_path / "shards"
    embed(sources, clip_encoder, out)
    before = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.iterdir()}
    embed(sources, clip_encoder, out, batch_size=5)
    assert before == {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.iterdir()}
    write_tar(tmp_path / "raw" / "0003.tar", {"new": sample(99)})
    assert embed([str(tmp_path / "raw" / "*.tar")], clip_encoder, out).pairs == 19
    assert all((out / name).stat().st_ino == before[name][0] for name in ("0000.tar", "0001.tar", "0002.tar"))


def test_a_shard_that_another_task_is_writing_is_left_to_it(tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    sources, out = raw_set(tmp_path / "raw", tars=1), tmp_path / "shards"
    out.mkdir()
    host = socket.gethostname().replace(".", "_")
    with started([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        of = {name: out / f"0001.tar.{name}.partial" for name in (f"{host}-{process.pid}", "elsewhere-7", f"{host}-999999999")}
        (out / f"0001.tar.pairs.npz.{host}-999999999.partial").touch()
        for path in of.values():
            path.touch()
        embed(sources, clip_encoder, out)
        assert [path.exists() for path in of.values()] == [True, True, False]
        assert len(list(out.glob("*.partial"))) == 2


@pytest.mark.long
def test_a_run_that_is_stopped_between_changed_sources_leaves_no_finished_set(
    tmp_path: Path, clip_folder: Path, clip_encoder: OpenClipEncoder
) -> None:
    sources, out = raw_set(tmp_path / "raw"), tmp_path / "shards"
    options = {"val": 0.0, "test": 0.0}
    embed(sources, clip_encoder, out, **options)
    kept = (out / "0002.tar").stat().st_ino
    for tar in (0, 1):  # other images with the captions of before: the shards keep their sizes
        pairs = {f"{tar}{pair:03d}": sample(10 * tar + pair) for pair in range(7)}
        others = {key: {**members, "png": image_bytes(int(key) + 500)} for key, members in pairs.items()}
        others[f"{tar}002"]["png"] = b"no image"
        write_tar(tmp_path / "raw" / f"{tar:04d}.tar", others)
    with pytest.raises(RuntimeError, match="stopped here"):
        embed(sources, Stopping(f"local-dir:{clip_folder}", None, device="cpu", stop_at=5), out, **options)
    with pytest.raises(ValueError, match=r"^There is no .*manifest\.json"):
        ShardSet(out)
    assert sorted(path.name for path in out.glob("*.tar.json")) == ["0000.tar.json", "0001.tar.json", "0002.tar.json"]
    new = (out / "0000.tar").stat().st_ino
    embed(sources, clip_encoder, out, **options)
    assert (out / "0000.tar").stat().st_ino == new and (out / "0002.tar").stat().st_ino == kept
    embed(sources, clip_encoder, tmp_path / "whole", **options)
    assert contents(out) == contents(tmp_path / "whole")


def test_nothing_is_mixed(tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    sources, out = raw_set(tmp_path / "raw"), tmp_path / "shards"
    embed(sources, clip_encoder, out)
    whole = contents(out)
    with pytest.raises(ValueError, match=r"shards with other settings .chunk: 4 there, 8 now"):
        embed(sources, clip_encoder, out, chunk=8)
    with pytest.raises(ValueError, match=r"val: 0.2 there, 0.3 now"):
        embed(sources, clip_encoder, out, val=0.3)
    other = OpenClipEncoder(f"local-dir:{write_open_clip(tmp_path / 'other', embed_dim=8)}", None, device="cpu")
    with pytest.raises(ValueError, match=r"space.dim: 16 there, 8 now"):
        embed(sources, other, out)
    with pytest.raises(ValueError, match=r"0002.tar, which is not a shard of the given sources"):
        embed([str(tmp_path / "raw" / "{0000..0001}.tar")], clip_encoder, out)
    assert contents(out) == whole
    raw = contents(tmp_path / "raw")
    with pytest.raises(ValueError, match=r"already holds 0000.tar"):
        embed(sources, clip_encoder, tmp_path / "raw")
    raw["embed.lock"] = b""
    assert contents(tmp_path / "raw") == raw


def test_precisions_are_not_mixed(tmp_path: Path, clip_folder: Path, clip_encoder: OpenClipEncoder) -> None:
    sources, out = raw_set(tmp_path / "raw"), tmp_path / "shards"
    half = OpenClipEncoder(f"local-dir:{clip_folder}", None, "bfloat16", device="cpu")
    embed(sources, clip_encoder, out)
    before = contents(out)
    for repair in (False, True):
        if repair:
            (out / "0001.tar").unlink()
        with pytest.raises(ValueError, match=r"other settings \(precision: float32 there, bfloat16 now\)\. Use the same"):
            embed(sources, half, out)
    embed(sources, clip_encoder, out)
    assert contents(out) == before
    settings = json.loads((out / "embed.json").read_text())
    (out / "embed.json").write_text(json.dumps({name: value for name, value in settings.items() if name != "precision"}))
    (out / "0001.tar").unlink()
    embed(sources, half, out)  # the set of an older version does not name its precision
    assert finished_shards(out).keys() == {"0000.tar", "0001.tar", "0002.tar"}


def test_one_run_at_a_time(tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    sources, out = raw_set(tmp_path / "raw"), tmp_path / "shards"
    with only_run(out), pytest.raises(ValueError, match="Another run is embedding into"):
        embed(sources, clip_encoder, out)
    embed(sources, clip_encoder, out)


@pytest.mark.parametrize("where", ["between files", "inside an image", "damaged header", "empty"])
def test_a_broken_source_is_named_and_the_others_are_kept(tmp_path: Path, clip_encoder: OpenClipEncoder, where: str) -> None:
    sources, out = raw_set(tmp_path / "raw"), tmp_path / "shards"
    path = tmp_path / "raw" / "0001.tar"
    good = path.read_bytes()
    with tarfile.open(path) as tar:
        member = tar.getmembers()[6]
    cut = {"between files": member.offset, "inside an image": member.offset_data + 600, "empty": 0}
    if where == "damaged header":
        path.write_bytes(good[: member.offset + 100] + b"garbage" + good[member.offset + 107 :])
    else:
        path.write_bytes(good[: cut[where]])
    with pytest.raises(ValueError, match=r"1 of 3 sources could not be read to their end: .*raw/0001.tar \(.*after \d+ bytes"):
        embed(sources, clip_encoder, out)
    assert sorted(finished_shards(out)) == ["0000.tar", "0002.tar"] and not (out / "manifest.json").exists()
    assert not list(out.glob("*.partial"))
    path.write_bytes(good)
    embed(sources, clip_encoder, out)
    embed(sources, clip_encoder, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.long
def test_full_disk(tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    sources, out = raw_set(tmp_path / "raw", pairs=30), tmp_path / "shards"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    try:
        with pytest.raises(ValueError, match=f"Could not write to {out}"):
            embed(sources, clip_encoder, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(out.glob("*.tar")) and not list(out.glob("*.partial"))
    embed(sources, clip_encoder, out)
    embed(sources, clip_encoder, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.parametrize("left", ["settings", "damaged settings"])
def test_settings_of_a_run_that_left_no_shard_bind_nobody(
    tmp_path: Path, clip_folder: Path, clip_encoder: OpenClipEncoder, left: str
) -> None:
    sources, out = raw_set(tmp_path / "raw", tars=1), tmp_path / "shards"
    with pytest.raises(KeyboardInterrupt):
        stopping = Stopping(f"local-dir:{clip_folder}", None, device="cpu", stop_at=1, error=KeyboardInterrupt)
        embed(sources, stopping, out)
    assert (out / "embed.json").is_file() and not list(out.glob("*.tar"))
    if left == "damaged settings":
        damage_cut(out / "embed.json")
    embed(sources, clip_encoder, out, states="int8", chunk=3)
    embed(sources, clip_encoder, tmp_path / "whole", states="int8", chunk=3)
    assert contents(out) == contents(tmp_path / "whole")


def test_settings_of_tasks_that_have_no_shard_yet_are_kept(
    tmp_path: Path, clip_folder: Path, clip_encoder: OpenClipEncoder
) -> None:
    """Another task may be making its first shard with them."""
    sources, out = raw_set(tmp_path / "raw", tars=2), tmp_path / "shards"
    stopping = Stopping(f"local-dir:{clip_folder}", None, device="cpu", stop_at=1, error=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        embed(sources, stopping, out, share=Share(0, 2))
    before = (out / "embed.json").read_bytes()
    for share in (Share(1, 2), Share()):
        expected = (
            r"shards was begun with other settings \(chunk: 4 there, 3 now\) and holds no shard yet.*remove .*embed.json"
        )
        with pytest.raises(ValueError, match=expected):
            embed(sources, clip_encoder, out, chunk=3, share=share)
    assert (out / "embed.json").read_bytes() == before
    (out / "embed.json").unlink()
    assert embed(sources, clip_encoder, out, chunk=3).pairs == 12
