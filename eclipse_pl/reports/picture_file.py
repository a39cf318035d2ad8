"""A picture of a benchmark as a page can hold it: small, and inside the page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from eclipse_pl.scorers.judge import UNREADABLE

SIDE = 192
"""Pixels of the longer side; smaller pictures stay as they are."""
MOST_BYTES = 16_000
"""Of one picture."""
QUALITIES = (90, 75, 60, 40)


def data_uri(folder: Path, file: str) -> tuple[str, tuple[int, int]]:
    """PNG where it is small enough, else JPEG; and its width and height.

    Raises:
        ValueError: there is no picture inside the folder, or it cannot be read.
    """
    path = folder / file
    if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        raise ValueError("no picture")
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except UNREADABLE as error:
        raise ValueError("cannot be read") from error
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    kind, content = smallest(picture)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}", picture.size


def smallest(picture: Image.Image) -> tuple[str, bytes]:
    """The first encoding that is small enough; noise, which no encoding makes small, loses pixels."""
    if len(content := encoded(picture, format="PNG", optimize=True)) <= MOST_BYTES:
        return "png", content
    while True:
        for quality in QUALITIES:
            if len(content := encoded(picture, format="JPEG", quality=quality, optimize=True)) <= MOST_BYTES:
                return "jpeg", content
        picture = picture.reduce(2)


def encoded(picture: Image.Image, **options: object) -> bytes:
    content = io.BytesIO()
    picture.save(content, **options)  # type: ignore[arg-type]
    return content.getvalue()
