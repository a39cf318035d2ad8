"""One encoded image -> 8-bit pixels in RGB or grey, upright, without transparency."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MOST_PIXELS = 1 << 26
"""Most pixels of an image. A larger JPEG, up to Pillow's own limit of 178,956,970 pixels, is decoded at half its size. A file
of a few hundred bytes may claim any number of pixels, and decoding takes 4 to 16 bytes for each."""
_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "PPM", "JPEG2000")
_NO_MEMORY = re.compile("out of memory|not enough memory|allocate memory", re.IGNORECASE)

Background = Literal["white", "black", "none"]


class BadImageError(ValueError):
    """Bytes that are no image. The message is the reason."""


@dataclass(frozen=True)
class ImageReader:
    """Decodes images. All images of a set have the same reader.

    Args:
        upright: Turn images as their EXIF data (or XMP, or TIFF's tag) state, so that "above" in a caption is above.
        background: Colour behind transparent images. "none" drops their transparency and shows the hidden colours.
    """

    upright: bool = True
    background: Background = "white"

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> ImageReader:
        """The reader of a set by ``images`` of its manifest, which may lack settings and hold others."""
        return cls(**{field.name: settings[field.name] for field in fields(cls) if field.name in settings})

    def __call__(self, content: bytes) -> Image.Image:
        """Decode the first frame in mode L or RGB.

        Raises:
            BadImageError: It cannot be decoded.
            MemoryError: Memory runs out.
        """
        if not content:
            raise BadImageError("the file is empty")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow warns of odd metadata
                with Image.open(io.BytesIO(content), formats=_formats()) as image:
                    return self._read(image)
        except UnidentifiedImageError:
            raise BadImageError(f"Pillow knows no image that begins with {content[:12]!r}") from None
        except Exception as error:  # Pillow and its plug-ins raise a dozen classes, and no broken file may stop the run
            if is_memory_error(error):
                raise MemoryError(str(error)) from error
            raise error if isinstance(error, BadImageError) else BadImageError(str(error) or type(error).__name__) from error

    def _read(self, image: Image.Image) -> Image.Image:
        if image.width * image.height > MOST_PIXELS:
            image.draft("RGB", (image.width // 2, image.height // 2))
        if (pixels := image.width * image.height) > MOST_PIXELS:
            raise BadImageError(f"{pixels:,} pixels are more than {MOST_PIXELS:,}")
        image.load()
        if self.upright:
            _turn_upright(image)
        if image.mode.startswith("I") or image.mode == "F":
            return _grey(image)
        if image.has_transparency_data and self.background != "none":
            return _laid_on(image, self.background)
        return image if image.mode in ("L", "RGB") else image.convert("RGB")


AS_SHOWN = ImageReader()
"""Decodes images as browsers do."""


def is_memory_error(error: BaseException) -> bool:
    """Return whether memory ran out. Pillow and torch raise several classes for it."""
    return isinstance(error, MemoryError) or bool(_NO_MEMORY.search(str(error)))


@cache
def _formats() -> tuple[str, ...]:
    """Return the image formats that this Pillow reads, without those that run a program, such as PostScript."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _turn_upright(image: Image.Image) -> None:
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception as error:
        if is_memory_error(error):
            raise
        # damaged metadata are ignored


def _grey(image: Image.Image) -> Image.Image:
    """Convert other grey levels to 8 bits, by the smallest usual scale that holds all levels."""
    levels = np.asarray(image).astype(np.float32)
    low, high = float(levels.min()), float(levels.max())
    scales = {"F": (1.0, 255.0, 65535.0), "I": (65535.0, 2.0**31 - 1)}.get(image.mode, (65535.0,))
    scale = next((scale for scale in scales if high <= scale), None)
    if not low >= 0 or scale is None:
        raise BadImageError(f"its grey levels go from {low:g} to {high:g}")
    levels *= np.float32(255 / scale)
    levels += 0.5
    return Image.fromarray(levels.astype(np.uint8))


def _laid_on(image: Image.Image, background: str) -> Image.Image:
    transparent = image if image.mode == "RGBA" else image.convert("RGBA")
    paper = Image.new("RGB", image.size, background)
    paper.paste(transparent, mask=transparent.getchannel("A"))
    return paper
