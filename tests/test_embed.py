from __future__ import annotations

import io
import json
import os
import resource
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from data_prep.__main__ import main
from data_prep.verify import verify
from eclipse_pl.data.manifest import Manifest
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.embed import embed_shards
from eclipse_pl.embed_folder import finished_shards, only_run
from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.raw_pairs import BrokenSourceError, RawPair, find_sources, normal_caption, read_samples, split_of
from tests.test_openclip import tiny_folder

COCO = Path(__file__).parents[2] / "shared" / "data" / "coco"
MADE_BY = "python -m data_prep embed --source raw/*.tar --out shards"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("clip") / "tiny", embed_dim=16)


@pytest.fixture(scope="module")
def encoder(folder: Path) -> OpenClipEncoder:
    return OpenClipEncoder(f"local-dir:{folder}", None, device="cpu")


def picture(number: int, kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (40, 36, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


def sample(number: int, **about: Any) -> dict[str, bytes]:
    caption = about.pop("caption", f"picture number {number} of the set")
    return {"png": picture(number), "txt": caption.encode(), **({"json": json.dumps(about).encode()} if about else {})}


def write_tar(path: Path, samples: dict[str, dict[str, bytes]], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for key, members in samples.items():
            for suffix, content in members.items():
                header = tarfile.TarInfo(f"{key}.{suffix}")
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
    return path


def raw_set(folder: Path, tars: int = 3, pairs: int = 7) -> list[str]:
    """Tars of numbered pictures; each has one picture that cannot be decoded."""
    for tar in range(tars):
        numbered = {f"{tar}{pair:03d}": sample(10 * tar + pair) for pair in range(pairs)}
        numbered[f"{tar}002"]["png"] = b"no picture"
        write_tar(folder / f"{tar:04d}.tar", numbered)
    return [str(folder / f"{{0000..{tars - 1:04d}}}.tar")]


def embed(sources: list[str], encoder: OpenClipEncoder, out: Path, **options: Any) -> Manifest:
    return embed_shards(
        sources, encoder, out, MADE_BY, **{"chunk": 4, "batch_size": 3, "workers": 0, "val": 0.2, "test": 0.1} | options
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def read_all(folder: Path) -> dict[str, dict[str, Any]]:
    """Every pair of a set by its key."""
    shards = ShardSet(folder)
    pairs: dict[str, dict[str, Any]] = {}
    for number, entry in enumerate(shards.entries):
        chunk = shards.read_chunk(number)
        states = np.split(chunk.text_states, np.cumsum(chunk.lengths)[:-1])
        for row, key in enumerate(chunk.keys):
            pairs[key] = {
                "split": entry.split,
                "caption": chunk.captions[row],
                "image": torch.tensor(chunk.image_embed[row]).float(),
                "text": torch.tensor(chunk.text_embed[row]).float(),
                "states": torch.tensor(states[row]).float(),
                "subset": chunk.subsets[row] if chunk.subsets else None,
                "negative": torch.tensor(chunk.negative_embed[row]).float() if chunk.negative_embed is not None else None,
            }
    return pairs


def test_coco_pictures_through_the_front_door(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not COCO.is_dir():
        pytest.skip(f"the MSCOCO pictures are not at {COCO}")
    annotations = json.loads((COCO / "captions_val2017_subset.json").read_text())["annotations"]
    captions = {f"{row['image_id']:012d}": row["caption"] for row in annotations}
    files = sorted((COCO / "val2017").glob("*.jpg"))
    assert len(files) == 57
    samples = {
        file.stem: {"jpg": file.read_bytes(), "json": json.dumps({"caption": captions[file.stem]}).encode()} for file in files
    }
    write_tar(tmp_path / "raw" / "a.tar", dict(list(samples.items())[:30]))
    write_tar(tmp_path / "raw" / "b.tar", dict(list(samples.items())[30:]))
    threads = torch.get_num_threads()
    args = ["--source", f"{tmp_path}/raw/*.tar", "--out", f"{tmp_path}/shards", "--val", "0.2", "--batch-size", "16"]
    encoder = ["--encoder.model", "ViT-B-32", "--encoder.pretrained", "random"]
    assert main(["embed", *args, *encoder]) == 0
    assert torch.get_num_threads() == threads
    printed = capsys.readouterr().out
    assert "a.tar: 30 pairs; 1 of 2 shards" in printed and "pairs/s" in printed and "57 pairs" in printed
    pairs = read_all(tmp_path / "shards")
    assert {key: pair["caption"] for key, pair in pairs.items()} == {key: text.strip() for key, text in captions.items()}
    assert {"train", "val"} <= {pair["split"] for pair in pairs.values()}
    vit = OpenClipEncoder("ViT-B-32", "random", device="cpu")
    for key in list(samples)[::19]:
        with Image.open(COCO / "val2017" / f"{key}.jpg") as opened:
            image = vit.encode_images(vit.image_transform(opened)[None])[0]
        text = vit.encode_text([captions[key].strip()])
        torch.testing.assert_close(pairs[key]["image"], image, rtol=2e-3, atol=2e-3)
        torch.testing.assert_close(pairs[key]["text"], text.text_embed[0], rtol=2e-3, atol=2e-3)
        torch.testing.assert_close(pairs[key]["states"], text.text_states, rtol=2e-3, atol=4e-3)
    assert main(["verify", f"{tmp_path}/shards"]) == 0


def test_what_a_sample_may_hold(tmp_path: Path, encoder: OpenClipEncoder) -> None:
    samples = {
        "png": sample(0, split="train"),
        "upper": {"JPG": picture(1, "JPEG"), "json": b'{"caption": "from the json", "split": "val", "subset": "unseen"}'},
        "webp": {"webp": picture(2, "WEBP"), "txt": b" with blanks around \n", "json": b'{"split": "test"}'},
        "txt_first": {**sample(3, split="train"), "json": b'{"caption": "not this one", "split": "train"}'},
        "hard": {**sample(4, split="val", subset="seen"), "negative.png": picture(5)},
        "long": sample(6, split="train", caption="a word and " * 50),
        "folder/inner": sample(7, split="train"),
    }
    source = write_tar(tmp_path / "raw" / "mixed.tar", samples)
    manifest = embed([str(source)], encoder, tmp_path / "shards", chunk=64)
    pairs = read_all(tmp_path / "shards")
    assert set(pairs) == set(samples)
    assert (pairs["upper"]["caption"], pairs["upper"]["split"]) == ("from the json", "val")
    assert (pairs["webp"]["caption"], pairs["webp"]["split"]) == ("with blanks around", "test")
    assert pairs["txt_first"]["caption"] == "picture number 3 of the set"
    assert (pairs["upper"]["subset"], pairs["hard"]["subset"], pairs["png"]["subset"]) == ("unseen", "seen", None)
    with Image.open(io.BytesIO(picture(5))) as opened:
        counterpart = encoder.encode_images(encoder.image_transform(opened)[None])[0]
    torch.testing.assert_close(pairs["hard"]["negative"], counterpart, rtol=2e-3, atol=2e-3)
    assert pairs["upper"]["negative"].isnan().all() and pairs["png"]["negative"] is None
    assert manifest.shards[0].cut == 1 and len(pairs["long"]["states"]) == 77
    space = ShardSet(tmp_path / "shards").space
    train = torch.stack([pair["image"] for pair in pairs.values() if pair["split"] == "train"])
    torch.testing.assert_close(space.image_mean, train.mean(0))
    torch.testing.assert_close(space.image_std, train.std(0, unbiased=False), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(space.zero_image, encoder.encode_images(torch.zeros(1, 3, 32, 32))[0])
    torch.testing.assert_close(space.empty_prompt().text_states, encoder.encode_text([""]).text_states)


class Overflowing(OpenClipEncoder):
    """Real embeddings, but those of bright pictures become larger than float16 can hold."""

    def encode_images(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        bright = pixels.flatten(1).mean(1) > 1.5
        return super().encode_images(pixels) * torch.where(bright, 1e9, 1.0)[:, None]


def test_what_is_skipped_is_counted_and_named(tmp_path: Path, folder: Path) -> None:
    white = io.BytesIO()
    Image.new("RGB", (32, 32), "white").save(white, "PNG")
    samples = {
        "good": sample(0),
        "broken": {"png": picture(1)[:200], "txt": b"half a picture"},
        "empty": {"png": b"", "txt": b"no bytes at all"},
        "blank": sample(2, caption="  \n"),
        "silent": {"png": picture(3)},
        "null": {"png": picture(3), "json": b'{"caption": null}'},
        "lonely": {"txt": b"a caption without a picture"},
        "latin": {"png": picture(4), "txt": "caf\xe9".encode("latin-1")},
        "nojson": {"png": picture(4), "json": b"[1, 2"},
        "list": {"png": picture(4), "json": b"[1, 2]"},
        "half": {**sample(5), "negative.jpg": b"no counterpart"},
        "bright": {"png": white.getvalue(), "txt": b"too large for float16"},
        "bright_counterpart": {**sample(6), "negative.png": white.getvalue()},
        "also_good": sample(8),
    }
    source = write_tar(tmp_path / "raw.tar", samples)
    encoder = Overflowing(f"local-dir:{folder}", None, device="cpu")
    manifest = embed([str(source)], encoder, tmp_path / "shards")
    assert set(read_all(tmp_path / "shards")) == {"good", "also_good"}
    skipped = {pair.key: pair.reason for pair in manifest.shards[0].skipped}
    assert set(skipped) == set(samples) - {"good", "also_good"} and len(manifest.shards[0].skipped) == 12
    assert skipped["broken"] == skipped["empty"] == "the picture cannot be decoded"
    assert skipped["blank"] == skipped["silent"] == skipped["null"] == "no caption"
    assert skipped["lonely"] == "no picture"
    assert skipped["half"] == "the counterpart cannot be decoded"
    assert skipped["bright"] == skipped["bright_counterpart"] == "its embedding is not finite in float16"
    assert "UTF-8" in skipped["latin"] and "json" in skipped["nojson"] and "json" in skipped["list"]


def test_nothing_that_can_be_embedded_is_an_error(tmp_path: Path, encoder: OpenClipEncoder) -> None:
    source = write_tar(tmp_path / "raw.tar", {"one": {"png": b"x", "txt": b"broken"}})
    with pytest.raises(ValueError, match=r"no pair that could be embedded.*cannot be decoded"):
        embed([str(source)], encoder, tmp_path / "shards")


@given(
    st.lists(st.tuples(st.text(min_size=1, max_size=5), st.none() | st.sampled_from("abc")), max_size=20), st.floats(0, 0.5)
)
def test_one_caption_or_group_never_lies_in_two_splits(rows: list[tuple[str, str | None]], val: float) -> None:
    splits: dict[str, set[str]] = {}
    for caption, group in rows:
        for written in (caption, f"  {caption.upper().lower()} "):
            name = normal_caption(written) if group is None else group
            splits.setdefault(name, set()).add(split_of(RawPair("k", written, b"", None, None, name, ""), val, 0.2))
    assert all(len(found) == 1 for found in splits.values())


def test_fractions_of_the_splits(tmp_path: Path) -> None:
    pairs = [RawPair("k", "", b"", None, None, f"group {number}", "") for number in range(4000)]
    drawn = [split_of(pair, 0.1, 0.3) for pair in pairs]
    assert abs(drawn.count("val") / 4000 - 0.1) < 0.02 and abs(drawn.count("test") / 4000 - 0.3) < 0.03
    larger = [split_of(pair, 0.4, 0.3) for pair in pairs]
    assert [split == "test" for split in drawn] == [split == "test" for split in larger]
    assert all(after == "val" for before, after in zip(drawn, larger, strict=True) if before == "val")
    assert {split_of(pair, 1.0, 0.0) for pair in pairs} == {"val"}
    own = RawPair("k", "", b"", None, "train", "group 0", "")
    assert split_of(own, 0.0, 1.0) == "train"


def test_records_hold_a_chunk_of_one_split(tmp_path: Path, encoder: OpenClipEncoder) -> None:
    manifest = embed(raw_set(tmp_path / "raw"), encoder, tmp_path / "shards", val=0.4)
    assert [shard.name for shard in manifest.shards] == ["0000.tar", "0001.tar", "0002.tar"]
    assert manifest.pairs == 18 and all(len(shard.skipped) == 1 for shard in manifest.shards)
    for shard in manifest.shards:
        for split in ("train", "val", "test"):
            sizes = [record.pairs for record in shard.records if record.split == split]
            assert all(size == 4 for size in sizes[:-1]) and all(0 < size <= 4 for size in sizes)
    assert len(manifest.splits) > 1


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(tmp_path: Path, encoder: OpenClipEncoder, workers: int) -> None:
    sources = raw_set(tmp_path / "raw")
    embed(sources, encoder, tmp_path / "one")
    embed(sources, encoder, tmp_path / "other", workers=workers)
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


class Stopping(OpenClipEncoder):
    """Raises at the n-th batch of pictures, as a machine without memory does."""

    def __init__(self, *args: Any, stop_at: int, error: type[BaseException] = RuntimeError, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stop_at, self.error = stop_at, error

    def encode_images(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        self.stop_at -= 1
        if self.stop_at < 0:
            raise self.error("stopped here")
        return super().encode_images(pixels)


def test_stopped_anywhere_and_started_again(tmp_path: Path, folder: Path, encoder: OpenClipEncoder) -> None:
    sources = raw_set(tmp_path / "raw")
    embed(sources, encoder, tmp_path / "whole")
    kept = []
    for stop_at in range(11):  # the space takes one batch, each of the three sources three
        out = tmp_path / f"stopped_{stop_at}"
        stopping = Stopping(
            f"local-dir:{folder}", None, device="cpu", stop_at=stop_at, error=(RuntimeError, KeyboardInterrupt)[stop_at % 2]
        )
        if stop_at < 10:
            with pytest.raises((RuntimeError, KeyboardInterrupt), match="stopped here"):
                embed(sources, stopping, out)
            assert not list(out.glob("*.partial")) and not (out / "manifest.json").exists()
            kept.append(len(list(out.glob("*.tar"))))
            before = {path.name: path.stat().st_ino for path in out.glob("*.tar")}
            embed(sources, encoder, out)
            assert all((out / name).stat().st_ino == inode for name, inode in before.items())
        else:
            embed(sources, stopping, out)
        assert contents(out) == contents(tmp_path / "whole")
    assert kept == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]


class Interrupted(Stopping):
    """Somebody types Ctrl-C at the sixth batch."""

    def __init__(self, model: str) -> None:
        super().__init__(model, None, device="cpu", stop_at=5, error=KeyboardInterrupt)


def test_ctrl_c_ends_in_one_sentence(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources, out = raw_set(tmp_path / "raw"), tmp_path / "shards"
    args = ["embed", "--source", *sources, "--out", str(out), "--batch-size", "3", "--workers", "0"]
    with pytest.raises(SystemExit) as left:
        main([*args, "--encoder", "tests.test_embed.Interrupted", "--encoder.model", f"local-dir:{folder}"])
    assert left.value.code == 130
    assert "The finished shards are kept: run the same command again" in capsys.readouterr().err
    assert any(finding.wrong and "The set is not finished" in finding.found for finding in verify([str(out)]))
    again = ["--encoder.model", f"local-dir:{folder}", "--encoder.pretrained", "null"]
    assert main([*args, *again]) == 0
    assert "0000.tar" not in capsys.readouterr().out, "it was finished before"


def test_bar_on_a_terminal(
    tmp_path: Path, encoder: OpenClipEncoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    embed(raw_set(tmp_path / "raw"), encoder, tmp_path / "shards")
    printed = capsys.readouterr().out
    assert "3 of 3 shards" in printed and "pairs/s" in printed and "left" in printed and "100%" in printed
    assert "0000.tar: " not in printed


def test_killed_and_started_again(tmp_path: Path, folder: Path, encoder: OpenClipEncoder) -> None:
    sources = raw_set(tmp_path / "raw", tars=30)
    script = f"""
import torch
from tests.test_embed import *

class Slow(OpenClipEncoder):
    def encode_images(self, pixels):
        time.sleep(0.05)
        return super().encode_images(pixels)

torch.set_num_threads(1)
slow = Slow({f"local-dir:{folder}"!r}, None, device="cpu")
embed({sources!r}, slow, Path({str(tmp_path / "killed")!r}), workers=1)
"""
    process = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[1], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "killed").glob("*.tar.json"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline, "the run ended before it could be killed"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    finished = finished_shards(tmp_path / "killed")
    assert 2 <= len(finished) < 30 and not (tmp_path / "killed" / "manifest.json").exists()
    embed(sources, encoder, tmp_path / "killed")
    embed(sources, encoder, tmp_path / "whole")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def damage_missing(path: Path) -> None:
    path.unlink()


def damage_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-700])


def damage_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["0001.tar", "manifest.json", "space.safetensors"])
@pytest.mark.parametrize("damage", [damage_missing, damage_cut, damage_byte])
def test_run_again_it_repairs_what_is_damaged_alone(
    tmp_path: Path, encoder: OpenClipEncoder, name: str, damage: Callable[[Path], None]
) -> None:
    sources, out = raw_set(tmp_path / "raw"), tmp_path / "shards"
    embed(sources, encoder, out)
    whole = contents(out)
    if name == "manifest.json" and damage is not damage_missing:
        (out / name).write_bytes(b'{"schema": 1, "spa')
    else:
        damage(out / name)
    before = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.iterdir()}
    embed(sources, encoder, out)
    assert contents(out) == whole
    touched = {path.name for path in out.iterdir() if before.get(path.name) != (path.stat().st_ino, path.stat().st_mtime_ns)}
    if name == "manifest.json":  # with it went all that vouched for the shards
        assert name in touched and "space.safetensors" not in touched
    else:
        assert touched == {name}


def test_a_finished_set_is_left_alone(tmp_path: Path, encoder: OpenClipEncoder) -> None:
    sources, out = raw_set(tmp_path / "raw"), tmp_path / "shards"
    embed(sources, encoder, out)
    before = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.iterdir()}
    embed(sources, encoder, out, batch_size=5)
    assert before == {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.iterdir()}
    write_tar(tmp_path / "raw" / "0003.tar", {"new": sample(99)})
    assert embed([str(tmp_path / "raw" / "*.tar")], encoder, out).pairs == 19
    assert all((out / name).stat().st_ino == before[name][0] for name in ("0000.tar", "0001.tar", "0002.tar"))


def test_nothing_is_mixed(tmp_path: Path, encoder: OpenClipEncoder) -> None:
    sources, out = raw_set(tmp_path / "raw"), tmp_path / "shards"
    embed(sources, encoder, out)
    whole = contents(out)
    with pytest.raises(ValueError, match=r"made in another way .chunk: 4 there, 8 now"):
        embed(sources, encoder, out, chunk=8)
    with pytest.raises(ValueError, match=r"val: 0.2 there, 0.3 now"):
        embed(sources, encoder, out, val=0.3)
    other = OpenClipEncoder(f"local-dir:{tiny_folder(tmp_path / 'other', embed_dim=8)}", None, device="cpu")
    with pytest.raises(ValueError, match=r"space: .*'dim': 16.* there, .*'dim': 8"):
        embed(sources, other, out)
    with pytest.raises(ValueError, match=r"0002.tar, which the given sources do not make"):
        embed([str(tmp_path / "raw" / "{0000..0001}.tar")], encoder, out)
    assert contents(out) == whole
    raw = contents(tmp_path / "raw")
    with pytest.raises(ValueError, match=r"already holds 0000.tar"):
        embed(sources, encoder, tmp_path / "raw")
    raw["embed.lock"] = b""
    assert contents(tmp_path / "raw") == raw


def test_one_run_at_a_time(tmp_path: Path, encoder: OpenClipEncoder) -> None:
    sources, out = raw_set(tmp_path / "raw"), tmp_path / "shards"
    with only_run(out), pytest.raises(ValueError, match="Another run is embedding into"):
        embed(sources, encoder, out)
    embed(sources, encoder, out)


@pytest.mark.parametrize("where", ["between files", "inside a picture", "damaged header", "empty"])
def test_a_broken_source_is_named_and_the_others_are_kept(tmp_path: Path, encoder: OpenClipEncoder, where: str) -> None:
    sources, out = raw_set(tmp_path / "raw"), tmp_path / "shards"
    path = tmp_path / "raw" / "0001.tar"
    good = path.read_bytes()
    with tarfile.open(path) as tar:
        member = tar.getmembers()[6]
    cut = {"between files": member.offset, "inside a picture": member.offset_data + 600, "empty": 0}
    if where == "damaged header":
        path.write_bytes(good[: member.offset + 100] + b"garbage" + good[member.offset + 107 :])
    else:
        path.write_bytes(good[: cut[where]])
    with pytest.raises(ValueError, match=r"1 of 3 sources could not be read to their end: .*raw/0001.tar \(.*after \d+ bytes"):
        embed(sources, encoder, out)
    assert sorted(finished_shards(out)) == ["0000.tar", "0002.tar"] and not (out / "manifest.json").exists()
    assert not list(out.glob("*.partial"))
    path.write_bytes(good)
    embed(sources, encoder, out)
    embed(sources, encoder, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


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


@pytest.mark.parametrize(
    "options", [{"chunk": 0}, {"batch_size": 0}, {"workers": -1}, {"val": 1.1}, {"val": 0.6, "test": 0.6}]
)
def test_impossible_options(tmp_path: Path, encoder: OpenClipEncoder, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))}.*{next(iter(options.values()))}"):
        embed(raw_set(tmp_path / "raw"), encoder, tmp_path / "shards", **options)
    assert not (tmp_path / "shards").exists()


def test_a_missing_source_is_told_before_the_encoder_is_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--source", f"{tmp_path}/0000.tar", "--out", f"{tmp_path}/shards", "--encoder.model", "no such model"]
    assert main(["embed", *args]) == 2
    assert "error: There is no source" in capsys.readouterr().err and not (tmp_path / "shards").exists()


def test_full_disk(tmp_path: Path, encoder: OpenClipEncoder) -> None:
    sources, out = raw_set(tmp_path / "raw", pairs=30), tmp_path / "shards"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    try:
        with pytest.raises(ValueError, match=f"Could not write to {out}"):
            embed(sources, encoder, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(out.glob("*.tar")) and not list(out.glob("*.partial"))
    embed(sources, encoder, out)
    embed(sources, encoder, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")
