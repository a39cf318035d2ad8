from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image, PngImagePlugin

from eclipse_pl.encoders.cropped import Cropped
from eclipse_pl.raw.image import BadImageError, ImageReader, is_memory_error

SMALL = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
RGB = Image.fromarray(SMALL).resize((48, 40), Image.Resampling.BICUBIC)
GREY = RGB.convert("L")


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def pixels(content: bytes, **options: Any) -> np.ndarray:
    image = ImageReader(**options)(content)
    assert image.mode in ("L", "RGB")
    return np.asarray(image.convert("RGB")).astype(int)


def reason(content: bytes) -> str:
    with pytest.raises(BadImageError) as error:
        ImageReader()(content)
    return str(error.value)


def test_ordinary_images_are_what_pillow_reads() -> None:
    for kind in ("PNG", "JPEG", "WEBP"):
        content = encoded(RGB, kind)
        assert np.array_equal(np.asarray(ImageReader()(content)), np.asarray(Image.open(io.BytesIO(content))))
    assert ImageReader()(encoded(GREY)).mode == "L"


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "JPEG2000", "GIF", "AVIF", "WEBP"])
def test_formats(kind: str) -> None:
    image = RGB.quantize(64) if kind == "GIF" else RGB
    assert abs(pixels(encoded(image, kind)) - np.asarray(image.convert("RGB"))).mean() < 8


@pytest.mark.parametrize("mode", ["1", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_modes(mode: str) -> None:
    image = RGB.convert(mode)
    # Pillow 12.3 cannot read the YCbCr that it writes without compression; 13 can
    options = {"CMYK": {"kind": "TIFF"}, "YCbCr": {"kind": "TIFF", "compression": "tiff_lzw"}}.get(mode, {})
    assert abs(pixels(encoded(image, **options)) - np.asarray(image.convert("RGB"))).max() <= 2


def test_greys_of_more_bits_keep_their_levels() -> None:
    levels = np.asarray(GREY)
    wide = levels.astype(np.uint16) * 257
    for image, kind in (
        (Image.fromarray(wide), "PNG"),
        (Image.fromarray(wide), "TIFF"),
        (Image.fromarray(wide.astype(np.int32)), "TIFF"),
        (Image.fromarray(levels.astype(np.int32) * 8421504), "TIFF"),
        (Image.fromarray((levels / 255).astype(np.float32)), "TIFF"),
        (Image.fromarray(levels.astype(np.float32)), "TIFF"),
        (Image.fromarray(wide.astype(np.float32)), "TIFF"),
    ):
        assert abs(pixels(encoded(image, kind))[..., 0] - levels).max() <= 1, (image.mode, kind)
    pgm = b"P5 48 40 65535 " + wide.astype(">u2").tobytes()
    assert np.array_equal(pixels(pgm)[..., 0], levels)
    for strange in (-1.0, np.nan, 1e9):
        assert "its grey levels go from" in reason(
            encoded(Image.fromarray(np.full((4, 4), strange, dtype=np.float32)), "TIFF")
        )


def turned(orientation: int, kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}[orientation]
    return encoded(RGB if stored is None else RGB.transpose(stored), kind, exif=exif.tobytes())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_images_are_turned_upright(orientation: int, kind: str) -> None:
    content = turned(orientation, kind)
    assert abs(pixels(content) - np.asarray(RGB)).mean() < 8
    if orientation != 1:
        assert pixels(content, upright=False).shape != pixels(content).shape or orientation == 3
        assert abs(pixels(turned(3, kind), upright=False) - np.asarray(RGB)).mean() > 20


def test_damaged_metadata_turn_nothing() -> None:
    content = turned(6, "JPEG")
    damaged = content.replace(b"Exif\0\0MM", b"Exif\0\0XX").replace(b"Exif\0\0II", b"Exif\0\0XX")
    assert damaged != content and pixels(damaged).shape == (48, 40, 3)


def test_what_is_transparent_is_laid_on_white() -> None:
    hidden = Image.new("RGBA", (48, 40), (255, 0, 255, 0))
    hidden.paste(RGB.crop((8, 8, 40, 32)), (8, 8))
    shown = Image.new("RGB", (48, 40), "white")
    shown.paste(RGB.crop((8, 8, 40, 32)), (8, 8))
    content = encoded(hidden)
    assert np.array_equal(pixels(content), np.asarray(shown))
    assert pixels(content, background="black")[0, 0].tolist() == [0, 0, 0]
    assert pixels(content, background="none")[0, 0].tolist() == [255, 0, 255]
    palette = encoded(RGB.quantize(16), transparency=bytes([0] * 16))
    assert (pixels(palette) == 255).all() and not (pixels(palette, background="none") == 255).all()
    key = encoded(Image.new("RGB", (4, 4), (1, 2, 3)), transparency=(1, 2, 3))
    assert (pixels(key) == 255).all()
    half = encoded(Image.new("LA", (4, 4), (0, 128)))
    assert abs(pixels(half) - 127).max() <= 1


def test_the_first_frame_of_several() -> None:
    other = Image.new("RGB", RGB.size)
    for kind in ("PNG", "WEBP", "MPO"):
        content = encoded(RGB, kind, save_all=True, append_images=[other] * 3)
        assert abs(pixels(content) - np.asarray(RGB)).mean() < 8


def test_what_is_no_image_is_named() -> None:
    assert reason(b"") == "the file is empty"
    assert reason(b"<html><body>404</body></html>") == "Pillow knows no image that begins with b'<html><body>'"
    assert "truncated" in reason(encoded(RGB.resize((400, 400)), "JPEG")[:-700])
    assert reason(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n").startswith("Pillow knows no image"), (
        "it would run a program"
    )


@given(st.binary(max_size=40), st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"]), st.integers(0, 300))
def test_damaged_images_are_read_or_refused(damage: bytes, kind: str, place: int) -> None:
    content = bytearray(encoded(RGB, kind))
    content[place : place + len(damage)] = damage
    try:
        assert ImageReader()(bytes(content)).mode in ("L", "RGB")
    except BadImageError as error:
        assert str(error)


def grey_png(width: int, height: int) -> bytes:
    """One that only says how large it is."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    header, rows = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\0\0\0\0", zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_images_of_too_many_pixels_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reason(grey_png(10_000, 7_000)) == "70,000,000 pixels are more than 67,108,864"
    assert "decompression bomb" in reason(grey_png(300_000, 1_000))
    monkeypatch.setattr("eclipse_pl.raw.image.MOST_PIXELS", 1000)
    assert ImageReader()(encoded(RGB, "JPEG")).size == (24, 20), "a JPEG is decoded at half its size"
    assert reason(encoded(RGB.resize((300, 300)), "JPEG")) == "22,500 pixels are more than 1,000"


def test_the_largest_jpeg_that_is_halved_is_pillows() -> None:
    content = encoded(RGB, "JPEG")
    place = content.index(b"\xff\xc0") + 5  # height and width
    within, beyond = (content[:place] + side.to_bytes(2, "big") * 2 + content[place + 4 :] for side in (13_000, 13_400))
    assert ImageReader()(within).size == (6_500, 6_500)
    assert "exceeds limit of 178956970 pixels" in reason(beyond)


@pytest.mark.long
def test_texts_in_a_png_are_bounded() -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("bomb", "x" * (1 << 26), zip=True)
    assert "Decompressed data too large" in reason(encoded(RGB, pnginfo=texts))


def test_running_out_of_memory_is_no_bad_image(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = MemoryError(), OSError("out of memory error when reading image file"), RuntimeError("can't allocate memory: 9")
    for error in errors:
        monkeypatch.setattr(Image.Image, "convert", lambda *args, error=error, **options: (_ for _ in ()).throw(error))
        with pytest.raises(MemoryError):
            ImageReader()(encoded(RGB.quantize(4)))
    assert not is_memory_error(OSError("broken data stream when reading image file"))


TRANSFORM = image_transform_v2(PreprocessCfg(size=32, mean=(0, 0, 0), std=(1, 1, 1)), is_train=False)


@given(st.integers(1, 200), st.integers(1, 200))
def test_ordinary_shapes_are_open_clips_own(width: int, height: int) -> None:
    image = RGB.resize((width, height))
    if max(width, height) <= 16 * min(width, height):
        assert torch.equal(Cropped(TRANSFORM, 16)(image), TRANSFORM(image))


@pytest.mark.parametrize("size", [(400, 10), (401, 10), (10, 397), (9, 500), (33, 2)])
def test_long_shapes_keep_their_middle(size: tuple[int, int]) -> None:
    wave = np.sin(np.linspace(0, 9, max(size)))[None].repeat(min(size), 0) * 100 + 128
    image = Image.fromarray((wave if size[0] > size[1] else wave.T).astype(np.uint8)).convert("RGB")
    assert image.size == size
    assert (Cropped(TRANSFORM, 16)(image) - TRANSFORM(image)).abs().mean() < 0.02


@pytest.mark.parametrize("size", [(1_000_000, 1), (3, 50_001)])
def test_a_long_image_is_cropped_before_it_is_resized(size: tuple[int, int]) -> None:
    """Or a line of a few hundred bytes becomes gigabytes."""
    seen: list[tuple[int, int]] = []

    def transform(image: Image.Image) -> torch.Tensor:
        seen.append(image.size)
        return TRANSFORM(image)

    assert Cropped(transform, 16)(Image.new("L", size)).shape == (3, 32, 32)
    assert max(seen[0]) <= 16 * min(seen[0]) + 1
