"""One encoded image -> pixels of 8 bits in red, green and blue (or grey), upright, without transparency."""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MOST_PIXELS = 1 << 26
"""Images with more are refused, but for a JPEG, which can be decoded at half its size: a file of a few hundred bytes may claim
any number of pixels, and each takes 4 to 16 bytes while it is decoded."""
_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "PPM", "JPEG2000")
_NO_MEMORY = re.compile("out of memory|not enough memory|allocate memory", re.IGNORECASE)

Background = Literal["white", "black", "none"]


class BadImageError(ValueError):
    """Bytes that make no image; the message says why."""


@dataclass(frozen=True)
class ImageReading:
    """How images are read; all of a set are read in one way.

    ``upright``: turned as their EXIF data (or XMP, or TIFF's own tag) say, so that "above" in a caption is above.
    ``background``: the colour that transparent images are laid on; "none" drops their transparency, which shows whatever
    colours it hid.
    """

    upright: bool = True
    background: Background = "white"

    def __call__(self, content: bytes) -> Image.Image:
        """Mode L or RGB; an image of several frames is its first. BadImageError where that is not possible, MemoryError."""
        if not content:
            raise BadImageError("the file is empty")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata concern nobody, a million images long
                with Image.open(io.BytesIO(content), formats=_formats()) as image:
                    return self._read(image)
        except UnidentifiedImageError:
            raise BadImageError(f"Pillow knows no image that begins with {content[:12]!r}") from None
        except Exception as error:  # Pillow and its plug-ins raise a dozen kinds for a broken file, and none may stop the run
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


AS_SHOWN = ImageReading()
"""As a browser shows an image."""


def is_memory_error(error: BaseException) -> bool:
    """Pillow and torch tell of memory that ran out in several ways."""
    return isinstance(error, MemoryError) or bool(_NO_MEMORY.search(str(error)))


@cache
def _formats() -> tuple[str, ...]:
    """Formats of pixels that this Pillow reads; not those that run a program, such as PostScript."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _turn_upright(image: Image.Image) -> None:
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception as error:
        if is_memory_error(error):
            raise
        # else its metadata are damaged, which say nothing then


def _grey(image: Image.Image) -> Image.Image:
    """Grey levels of 16 bits or more, or fractions, in 8 bits. The scale is the smallest usual one that holds all levels."""
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
