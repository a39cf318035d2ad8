from __future__ import annotations

import os
from pathlib import Path

import pytest

from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.raw.find_sources import find_sources
from eclipse_pl.raw.tars import TarPart
from tests.helpers.raw_sets import embed, image_bytes, read_source, sample, write_tar

UNUSED = "another image of its key is used (not its {})"


def test_images_that_are_not_used_are_named(tmp_path: Path) -> None:
    samples = {
        "cat": {"jpg": image_bytes(0, "JPEG"), "gif": image_bytes(1, "GIF"), "png": image_bytes(2), "txt": b"a cat"},
        "dog": {
            "png": image_bytes(3),
            "negative.jpg": image_bytes(4, "JPEG"),
            "negative.png": image_bytes(5),
            "txt": b"a dog",
        },
        "odd": {"png": image_bytes(6), "jpg": image_bytes(7), "txt": b"\xff"},
        "half": {"png": image_bytes(8), "jpg": image_bytes(9)},
        "one": sample(10),
    }
    write_tar(tmp_path / "a.tar", samples)
    for key, files in samples.items():
        for suffix, content in files.items():
            (tmp_path / "folder").mkdir(exist_ok=True)
            (tmp_path / "folder" / f"{key}.{suffix}").write_bytes(content)
    for source in ("a.tar", "folder"):
        pairs, skipped, _ = read_source(f"{tmp_path}/{source}")
        assert {key: pair.image for key, pair in pairs.items()} == {
            "cat": image_bytes(2),
            "dog": image_bytes(3),
            "one": image_bytes(10),
        }
        assert pairs["dog"].negative == image_bytes(5)
        reasons = sorted((pair.key, pair.reason) for pair in skipped if pair.key in ("cat", "dog", "half"))
        assert reasons == [
            ("cat", UNUSED.format("gif")),
            ("cat", UNUSED.format("jpg")),
            ("dog", UNUSED.format("negative.jpg")),
            ("half", "no caption (there are: jpg, png)"),
        ], source
        assert "its caption is no text (its txt is no UTF-8)" in [pair.reason for pair in skipped if pair.key == "odd"]


def test_a_change_of_an_image_that_is_not_used(tmp_path: Path) -> None:
    for number, suffix in enumerate(("png", "jpg")):
        (tmp_path / f"cat.{suffix}").write_bytes(image_bytes(number))
    (tmp_path / "cat.txt").write_text("a cat")
    (part,) = find_sources([str(tmp_path)]).parts.values()
    assert part.size == 2
    before = part.version(), part.sha256()
    (tmp_path / "cat.png").unlink()
    (now,) = find_sources([str(tmp_path)]).parts.values()
    assert now.size == 1 and now.version() != before[0] and now.sha256() != before[1]


@pytest.mark.processes
def test_a_url_with_a_blank_is_one_sentence(tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    url = "https://localhost:9/my tars/0.tar"
    assert TarPart(url).version() == ""
    with pytest.raises(
        ValueError, match=r"1 of 1 sources could not be read to their end: https://localhost:9/my tars/0.tar \(.*%20"
    ):
        embed([url], clip_encoder, tmp_path / "set")
    assert not os.path.exists(tmp_path / "set" / "manifest.json")
