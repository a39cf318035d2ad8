"""An image of a benchmark as a page can hold it: small, and inside the page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from eclipse_pl.scorers.network_scorer import UNREADABLE

SIDE = 192
"""Pixels of the longer side; smaller images stay as they are."""
MOST_BYTES = 16_000
"""Of one image."""
QUALITIES = (90, 75, 60, 40)


def data_uri(folder: Path, file: str) -> tuple[str, tuple[int, int]]:
    """PNG where it is small enough, else JPEG; and its width and height.

    Raises:
        ValueError: there is no image inside the folder, or it cannot be read.
    """
    path = folder / file
    if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        raise ValueError("no image")
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except UNREADABLE as error:
        raise ValueError("cannot be read") from error
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    kind, content = smallest(image)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}", image.size


def smallest(image: Image.Image) -> tuple[str, bytes]:
    """The first encoding that is small enough; noise, which no encoding makes small, loses pixels."""
    if len(content := encoded(image, format="PNG", optimize=True)) <= MOST_BYTES:
        return "png", content
    while True:
        for quality in QUALITIES:
            if len(content := encoded(image, format="JPEG", quality=quality, optimize=True)) <= MOST_BYTES:
                return "jpeg", content
        image = image.reduce(2)


def encoded(image: Image.Image, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, **options)  # type: ignore[arg-type]
    return content.getvalue()
