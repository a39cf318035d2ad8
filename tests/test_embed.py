from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from data_prep.__main__ import main
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.raw.decoder import EncodedBatch, ImageDecoder
from eclipse_pl.raw.image import AS_SHOWN
from eclipse_pl.raw.pairs import RawPair
from tests.helpers.raw_sets import contents, embed, image_bytes, raw_set, read_all, sample, write_tar
from tests.helpers.real_data import RealData


@pytest.mark.processes
def test_coco_images_through_the_front_door(tmp_path: Path, real_data: RealData, capsys: pytest.CaptureFixture[str]) -> None:
    coco = real_data("coco")
    annotations = json.loads((coco / "captions_val2017_subset.json").read_text())["annotations"]
    captions = {f"{row['image_id']:012d}": row["caption"] for row in annotations}
    files = sorted((coco / "val2017").glob("*.jpg"))
    assert len(files) == 57
    samples = {
        file.stem: {"jpg": file.read_bytes(), "json": json.dumps({"caption": captions[file.stem]}).encode()} for file in files
    }
    write_tar(tmp_path / "raw" / "a.tar", dict(list(samples.items())[:30]))
    write_tar(tmp_path / "raw" / "b.tar", dict(list(samples.items())[30:]))
    threads = torch.get_num_threads()
    args = [
        "--source",
        f"{tmp_path}/raw/a.tar",
        f"{tmp_path}/raw/b.tar",
        "--out",
        f"{tmp_path}/shards",
        "--val",
        "0.2",
        "--batch-size",
        "16",
    ]
    encoder = ["--encoder.model", "ViT-S-32-alt", "--encoder.pretrained", "random"]
    assert main(["embed", *args, *encoder]) == 0
    assert torch.get_num_threads() == threads
    printed = capsys.readouterr().out
    assert "a.tar: 30 pairs; 1 of 2 shards" in printed and "pairs/s" in printed and "57 pairs" in printed
    pairs = read_all(tmp_path / "shards")
    assert {key: pair["caption"] for key, pair in pairs.items()} == {key: text.strip() for key, text in captions.items()}
    assert {"train", "val"} <= {pair["split"] for pair in pairs.values()}
    vit = OpenClipEncoder("ViT-S-32-alt", "random", device="cpu")
    for key in list(samples)[::19]:
        with Image.open(coco / "val2017" / f"{key}.jpg") as opened:
            image = vit.encode_images(vit.image_transform(opened)[None])[0]
        text = vit.encode_text([captions[key].strip()])
        torch.testing.assert_close(pairs[key]["image"], image, rtol=2e-3, atol=2e-3)
        torch.testing.assert_close(pairs[key]["text"], text.text_embed[0], rtol=2e-3, atol=2e-3)
        torch.testing.assert_close(pairs[key]["states"], text.text_states, rtol=2e-3, atol=4e-3)
    assert main(["verify", f"{tmp_path}/shards"]) == 0


def test_what_a_sample_may_hold(tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    samples = {
        "png": sample(0, split="train"),
        "upper": {"JPG": image_bytes(1, "JPEG"), "json": b'{"caption": "from the json", "split": "val", "subset": "unseen"}'},
        "webp": {"webp": image_bytes(2, "WEBP"), "txt": b" with blanks around \n", "json": b'{"split": "test"}'},
        "txt_first": {**sample(3, split="train"), "json": b'{"caption": "not this one", "split": "train"}'},
        "hard": {**sample(4, split="val", subset="seen"), "negative.png": image_bytes(5)},
        "swapped": sample(8, split="val", negative_caption=" a blue star and a red circle "),
        "long": sample(6, split="train", caption="a word and " * 50),
        "folder/inner": sample(7, split="train"),
    }
    source = write_tar(tmp_path / "raw" / "mixed.tar", samples)
    manifest = embed([str(source)], clip_encoder, tmp_path / "shards", chunk=64)
    pairs = read_all(tmp_path / "shards")
    assert set(pairs) == set(samples)
    assert (pairs["upper"]["caption"], pairs["upper"]["split"]) == ("from the json", "val")
    assert (pairs["webp"]["caption"], pairs["webp"]["split"]) == ("with blanks around", "test")
    assert pairs["txt_first"]["caption"] == "image number 3 of the set"
    assert (pairs["upper"]["subset"], pairs["hard"]["subset"], pairs["png"]["subset"]) == ("unseen", "seen", None)
    with Image.open(io.BytesIO(image_bytes(5))) as opened:
        counterpart = clip_encoder.encode_images(clip_encoder.image_transform(opened)[None])[0]
    torch.testing.assert_close(pairs["hard"]["negative"], counterpart, rtol=2e-3, atol=2e-3)
    assert pairs["upper"]["negative"].isnan().all() and pairs["png"]["negative"] is None
    swapped = clip_encoder.encode_text(["a blue star and a red circle"]).text_embed[0]
    torch.testing.assert_close(pairs["swapped"]["negative_text"], swapped, rtol=2e-3, atol=2e-3)
    assert pairs["hard"]["negative_text"].isnan().all() and pairs["png"]["negative_text"] is None
    assert manifest.shards[0].cut == 1 and len(pairs["long"]["states"]) == 77
    space = ShardSet(tmp_path / "shards").space
    train = torch.stack([pair["image"] for pair in pairs.values() if pair["split"] == "train"])
    torch.testing.assert_close(space.image_mean, train.mean(0))
    torch.testing.assert_close(space.image_std, train.std(0, unbiased=False), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(space.zero_image, clip_encoder.encode_images(torch.zeros(1, 3, 32, 32))[0])
    torch.testing.assert_close(space.empty_prompt().text_states, clip_encoder.encode_text([""]).text_states)


class Overflowing(OpenClipEncoder):
    """Real embeddings, but those of bright images become larger than float16 can hold, and dark ones smaller."""

    def encode_images(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        light = pixels.flatten(1).mean(1)
        return super().encode_images(pixels) * torch.where(light > 1.5, 1e9, torch.where(light < -1.5, 1e-9, 1.0))[:, None]


def test_what_is_skipped_is_counted_and_named(tmp_path: Path, clip_folder: Path) -> None:
    white, black = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (32, 32), "white").save(white, "PNG")
    Image.new("RGB", (32, 32), "black").save(black, "PNG")
    samples = {
        "good": sample(0),
        "broken": {"png": image_bytes(1)[:200], "txt": b"half an image"},
        "empty": {"png": b"", "txt": b"no bytes at all"},
        "blank": sample(2, caption="  \n"),
        "silent": {"png": image_bytes(3)},
        "null": {"png": image_bytes(3), "json": b'{"caption": null}'},
        "lonely": {"txt": b"a caption without an image"},
        "latin": {"png": image_bytes(4), "txt": "caf\xe9".encode("latin-1")},
        "nojson": {"png": image_bytes(4), "json": b"[1, 2"},
        "list": {"png": image_bytes(4), "json": b"[1, 2]"},
        "half": {**sample(5), "negative.jpg": b"no counterpart"},
        "bright": {"png": white.getvalue(), "txt": b"too large for float16"},
        "bright_counterpart": {**sample(6), "negative.png": white.getvalue()},
        "dark": {"png": black.getvalue(), "txt": b"too small for float16"},
        "dark_counterpart": {**sample(7), "negative.png": black.getvalue()},
        "also_good": sample(8),
    }
    source = write_tar(tmp_path / "raw.tar", samples)
    encoder = Overflowing(f"local-dir:{clip_folder}", None, device="cpu")
    manifest = embed([str(source)], encoder, tmp_path / "shards")
    assert set(read_all(tmp_path / "shards")) == {"good", "also_good"}
    skipped = {pair.key: pair.reason for pair in manifest.shards[0].skipped}
    assert set(skipped) == set(samples) - {"good", "also_good"} and len(manifest.shards[0].skipped) == 14
    assert skipped["broken"].startswith("the image cannot be decoded") and skipped["empty"].startswith("the image cannot")
    assert skipped["blank"] == skipped["null"] == "no caption" and skipped["silent"] == "no caption (there are: png)"
    assert skipped["lonely"] == "no image (there are: txt)"
    assert skipped["half"].startswith("the counterpart's image cannot be decoded")
    assert skipped["bright"] == skipped["bright_counterpart"] == "its embedding is not finite in float16"
    assert skipped["dark"] == skipped["dark_counterpart"] == "its embedding is zero, or vanishes in float16"
    assert skipped["latin"] == "its caption is no text (its txt is no UTF-8)"
    assert skipped["nojson"].startswith("its json cannot be read (Expecting ',' delimiter")
    assert skipped["list"] == "its json cannot be read (it is a list, and an object is expected)"


def test_pairs_of_one_image_have_one_group(tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    """MSCOCO as img2dataset stores it: an image under five keys, here in two tars."""
    for tar, images in (("0000", [0, 0, 1, 2]), ("0001", [0, 1, 3])):
        samples = {
            f"{tar}{n}": {**sample(n, caption=f"{tar} {n}"), "png": image_bytes(image)} for n, image in enumerate(images)
        }
        write_tar(tmp_path / "raw" / f"{tar}.tar", samples)
    embed([f"{tmp_path}/raw/*.tar"], clip_encoder, tmp_path / "shards", val=0.0, test=0.0, batch_size=16, chunk=16)
    shards = ShardSet(tmp_path / "shards", check="record")
    batch = shards.gather(np.repeat([0, 1], [4, 3]), np.array([0, 1, 2, 3, 0, 1, 2]))
    assert batch.group is not None and [batch.group.tolist().index(number) for number in batch.group] == [0, 0, 2, 3, 0, 2, 6]
    assert [entry.images for entry in shards.entries] == [3, 3] and torch.equal(batch.image_embed[0], batch.image_embed[1])


def test_nothing_that_can_be_embedded_is_an_error(tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    source = write_tar(tmp_path / "raw.tar", {"one": {"png": b"x", "txt": b"broken"}})
    with pytest.raises(ValueError, match=r"no pair that could be embedded.*cannot be decoded"):
        embed([str(source)], clip_encoder, tmp_path / "shards")


def test_records_hold_a_chunk_of_one_split(tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    manifest = embed(raw_set(tmp_path / "raw"), clip_encoder, tmp_path / "shards", val=0.4)
    assert [shard.name for shard in manifest.shards] == ["0000.tar", "0001.tar", "0002.tar"]
    assert manifest.pairs == 18 and all(len(shard.skipped) == 1 for shard in manifest.shards)
    for shard in manifest.shards:
        for split in ("train", "val", "test"):
            sizes = [record.pairs for record in shard.records if record.split == split]
            assert all(size == 4 for size in sizes[:-1]) and all(0 < size <= 4 for size in sizes)
    assert len(manifest.splits) > 1


@pytest.mark.processes
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(tmp_path: Path, clip_encoder: OpenClipEncoder, workers: int) -> None:
    sources = raw_set(tmp_path / "raw")
    embed(sources, clip_encoder, tmp_path / "one")
    embed(sources, clip_encoder, tmp_path / "other", workers=workers)
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


@pytest.mark.processes
def test_pixels_travel_in_slots_alone(clip_encoder: OpenClipEncoder) -> None:
    """Containers have 64 MB of /dev/shm, where torch sends tensors."""
    decoder = ImageDecoder(clip_encoder.image_transform, AS_SHOWN, batch_size=3, workers=1, held=2)
    pairs = [RawPair(f"{n}", "", image_bytes(n), image_bytes(9) if n == 2 else None, None, "", "", n) for n in (1, 2)]
    bad = RawPair("bad", "", b"no image", None, None, "", "", 0)
    assert decoder.slots is not None
    decoder.slots.take()
    decoded = decoder[EncodedBatch("0.tar", [pairs[0], bad, pairs[1]], slot=decoder.slots.take())]
    assert not any(isinstance(part, torch.Tensor | np.ndarray) for part in vars(decoded).values())
    pixels, negative_pixels = decoder.opened(decoded)
    assert decoded.negative_rows == [1] and [pair.key for pair in decoded.batch.skipped] == ["bad"]
    for found, number in ((pixels[0], 1), (pixels[1], 2), (negative_pixels[0], 9)):
        assert torch.equal(found, clip_encoder.image_transform(Image.open(io.BytesIO(image_bytes(number)))))


@pytest.mark.processes
@pytest.mark.slow
def test_a_container_with_little_shared_memory(tmp_path: Path, clip_folder: Path) -> None:
    write_tar(tmp_path / "raw.tar", {f"{number}": sample(number) for number in range(40)})
    command = f"mount -t tmpfs -o size=64k tmpfs /dev/shm && {sys.executable} -m data_prep embed --source {tmp_path}/raw.tar "
    command += f"--out {tmp_path}/shards --batch_size 16 --encoder.model local-dir:{clip_folder} --encoder.pretrained null"
    if subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("this user may not mount")
    subprocess.run(["unshare", "-m", "sh", "-c", command], check=True, cwd=Path(__file__).parents[1])
    assert len(read_all(tmp_path / "shards")) == 40


def test_a_batch_is_copied_before_the_next_is_started_and_waited_for_alone(
    tmp_path: Path, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU works in order: a copy queued after the next batch would wait for it."""
    steps: list[str] = []

    class Recording(OpenClipEncoder):
        def encode_images(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
            steps.append("compute")
            return super().encode_images(pixels)

    def to_host(tensors: list[Tensor]) -> tuple[list[Tensor], Any]:
        number = steps.count("compute")
        steps.append(f"copy {number}")
        return tensors, lambda: steps.append(f"wait {number}")

    encoder = Recording(f"local-dir:{clip_folder}", None, device="cpu")
    source = write_tar(tmp_path / "raw.tar", {f"{number}": sample(number) for number in range(8)})
    embed([str(source)], encoder, tmp_path / "plain")
    steps.clear()
    monkeypatch.setattr("eclipse_pl.embed.embedded_pairs._to_host", to_host)
    embed([str(source)], encoder, tmp_path / "steps")
    # the first computation is the space's; every other batch is copied before the next one and waited for alone
    expected = "compute|compute|copy 2|compute|copy 3|wait 2|compute|copy 4|wait 3|wait 4"
    assert "|".join(steps) == expected
    assert contents(tmp_path / "plain") == contents(tmp_path / "steps")


class Failing:
    """A transform that fails at the second image, in a worker if there is one."""

    def __init__(self, transform: Any, how: str) -> None:
        self.transform, self.how, self.images = transform, how, 0

    def __call__(self, image: Image.Image) -> torch.Tensor:
        self.images += 1
        if self.images == 3:  # the first is the one that shows the size
            if self.how == "memory":
                raise MemoryError
            os.kill(os.getpid(), signal.SIGKILL)
        return self.transform(image)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.processes)])
def test_memory_that_runs_out_is_reported(tmp_path: Path, clip_folder: Path, workers: int) -> None:
    encoder = OpenClipEncoder(f"local-dir:{clip_folder}", None, device="cpu")
    encoder.image_transform = Failing(encoder.image_transform, "memory")
    expected = r"Memory ran out while 0000.tar was embedded \(at the image of 0001\). Lower --workers or --batch-size"
    with pytest.raises(ValueError, match=expected):
        embed(raw_set(tmp_path / "raw"), encoder, tmp_path / "shards", workers=workers)


@pytest.mark.processes
def test_a_worker_that_is_killed_is_reported(tmp_path: Path, clip_folder: Path) -> None:
    encoder = OpenClipEncoder(f"local-dir:{clip_folder}", None, device="cpu")
    encoder.image_transform = Failing(encoder.image_transform, "killed")
    expected = r"process that decodes images was .* from outside while 0000.tar was embedded.*Lower --workers or --batch-size"
    with pytest.raises(ValueError, match=expected):
        embed(raw_set(tmp_path / "raw"), encoder, tmp_path / "shards", workers=1)


@pytest.mark.long
def test_how_images_are_read_is_kept_with_the_set(
    tmp_path: Path, clip_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    colours = {"hidden": (0, 0, 0, 0), "white": (255, 255, 255), "black": (0, 0, 0)}
    samples = {}
    for key, colour in colours.items():
        content = io.BytesIO()
        Image.new("RGB" if len(colour) == 3 else "RGBA", (32, 32), colour).save(content, "PNG")
        samples[key] = {"png": content.getvalue(), "txt": key.encode()}
    write_tar(tmp_path / "raw.tar", samples)
    args = ["embed", "--source", f"{tmp_path}/raw.tar", "--workers", "0", "--encoder.model", f"local-dir:{clip_folder}"]
    args += ["--encoder.pretrained", "null", "--out"]
    assert main([*args, f"{tmp_path}/plain"]) == 0
    assert main([*args, f"{tmp_path}/dropped", "--background", "none", "--upright", "false"]) == 0
    plain, dropped = read_all(tmp_path / "plain"), read_all(tmp_path / "dropped")
    assert torch.equal(plain["hidden"]["image"], plain["white"]["image"])
    assert torch.equal(dropped["hidden"]["image"], dropped["black"]["image"])
    kept = json.loads((tmp_path / "dropped" / "embed.json").read_text())
    assert kept["background"] == "none" and kept["upright"] is False
    assert ShardSet(tmp_path / "dropped").manifest.images == {"upright": False, "background": "none"}
    assert main([*args, f"{tmp_path}/plain", "--background", "black"]) == 2
    assert "background: white there, black now" in capsys.readouterr().err


def test_bar_on_a_terminal(
    tmp_path: Path, clip_encoder: OpenClipEncoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    embed(raw_set(tmp_path / "raw"), clip_encoder, tmp_path / "shards")
    printed = capsys.readouterr().out
    assert "3 of 3 shards" in printed and "pairs/s" in printed and "left" in printed and "100%" in printed
    assert "0000.tar: " not in printed


@pytest.mark.parametrize(
    "options", [{"chunk": 0}, {"batch_size": 0}, {"workers": -1}, {"val": 1.1}, {"val": 0.6, "test": 0.6}]
)
def test_impossible_options(tmp_path: Path, clip_encoder: OpenClipEncoder, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))}.*{next(iter(options.values()))}"):
        embed(raw_set(tmp_path / "raw"), clip_encoder, tmp_path / "shards", **options)
    assert not (tmp_path / "shards").exists()


def test_a_missing_source_is_reported_before_the_encoder_is_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--source", f"{tmp_path}/0000.tar", "--out", f"{tmp_path}/shards", "--encoder.model", "no such model"]
    assert main(["embed", *args]) == 2
    assert "error: There is no source" in capsys.readouterr().err and not (tmp_path / "shards").exists()
