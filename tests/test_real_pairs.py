from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from eclipse_pl.raw.image import AS_SHOWN, ImageReader
from eclipse_pl.raw.real_pairs import RealPairs, read_images
from tests.helpers.raw_sets import write_tar


def encoded(image: Image.Image, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG", **options)
    return content.getvalue()


def images_of(path: Path, reader: ImageReader) -> dict[str, np.ndarray]:
    deep = Image.fromarray(np.full((4, 6), 100 * 257, dtype=np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    samples = {
        "deep": encoded(deep),
        "clear": encoded(Image.new("RGBA", (6, 4), (0, 0, 0, 0))),
        "turned": encoded(Image.new("RGB", (6, 4)), exif=exif.tobytes()),
    }
    write_tar(path, {key: {"png": content, "txt": key.encode()} for key, content in samples.items()})
    images = read_images([str(path)], [(key, 0) for key in samples], reader)
    assert {image.mode for image in images.values()} == {"RGB"}
    return {key: np.asarray(image) for (key, _), image in images.items()}


def test_images_are_shown_as_they_were_embedded(tmp_path: Path) -> None:
    shown = images_of(tmp_path / "a.tar", AS_SHOWN)
    assert (shown["deep"] == 100).all() and (shown["clear"] == 255).all() and shown["turned"].shape == (6, 4, 3)
    other = images_of(tmp_path / "a.tar", ImageReader(upright=False, background="black"))
    assert (other["deep"] == 100).all() and (other["clear"] == 0).all() and other["turned"].shape == (4, 6, 3)


def test_the_reader_of_a_set() -> None:
    assert ImageReader.of({}) == AS_SHOWN == ImageReader.of({"teacher": "a prior", "sampler": "ddim"})
    assert ImageReader.of({"upright": False, "background": "none"}) == ImageReader(False, "none")
    assert ImageReader.of({"background": "black"}) == ImageReader(background="black")


def test_an_image_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "a.tar", {"0": {"png": b"%!PS-Adobe-3.0 EPSF-3.0", "txt": b"a"}})
    with pytest.raises(ValueError, match=r"^The image of 0 cannot be decoded \(Pillow knows no image .*\)\. Give the source"):
        read_images([str(tar)], [("0", 0)], AS_SHOWN)


def test_an_image_of_several_captions_is_found_once() -> None:
    """Each with another key, as the captions of a sample have; the nearest image has the most of them."""
    captions = (5, 1, 2)
    names = [(f"{image}#{n}", 100 + image) for image, count in enumerate(captions) for n in range(count)]
    directions = torch.eye(3)[[number - 100 for _, number in names]]
    pairs = RealPairs(names, [f"caption of {key}" for key, _ in names], directions)
    embeds = torch.tensor([[3.0, 2.0, 1.0], [0.0, 1.0, 2.0]])
    for count in (1, 2, 3, 9):
        found = [[names[row][1] for _, row in one] for one in pairs.nearest(embeds, count)]
        assert found == [[100, 101, 102][:count], [102, 101, 100][:count]]
    (near, _), _ = pairs.nearest(embeds, 2)
    assert near[0] == pytest.approx(3 / 14**0.5)
