"""Copies: the image files beside a page, named by their content, so that a page that is written again keeps them."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from PIL import Image

from eclipse_pl.files import atomic_path
from eclipse_pl.raw.names import is_expected
from eclipse_pl.reports.images import inside
from eclipse_pl.scorers.network_scorer import UNREADABLE

FOLDER, PAGE = "images", "page.html"
ENDINGS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}
"""Of the formats that every browser shows. Other files are not copied."""
OURS = re.compile(r"[0-9a-f]{20}\.(png|jpg|webp)")


def copy_name(folder: Path, file: str) -> tuple[str, tuple[int, int]]:
    """Return the name of an image's copy, and its width and height in pixels.

    Raises:
        ValueError: There is no such image inside the folder, or it cannot be read.
    """
    path = inside(folder, file)
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=tuple(ENDINGS)) as image:
            ending, size = ENDINGS[str(image.format)], image.size
            image.verify()
    except UNREADABLE as error:
        raise ValueError("cannot be read") from error
    return f"{sha256(content).hexdigest()[:20]}.{ending}", size


def require_own(folder: Path) -> None:
    """Raise ValueError where ``folder`` has images that are not those of a page, such as a benchmark's own.

    A file that a system leaves in every folder that somebody looks into, such as ``.DS_Store``, is nobody's image.
    """
    images = folder / FOLDER
    names = sorted(path.name for path in images.iterdir()) if images.is_dir() else []
    if foreign := next((name for name in names if not (OURS.match(name) or is_expected(name))), None):
        raise ValueError(f"{images / foreign} is a file that `compare` did not write. Choose another folder with --out.")


def write_copies(folder: Path, files: Mapping[str, Path]) -> None:
    """Copy ``{name: file}`` into the folder of images. What is there already has the same content."""
    images = folder / FOLDER
    images.mkdir(parents=True, exist_ok=True)
    for name, path in files.items():
        if not (images / name).exists():
            with atomic_path(images / name) as partial:
                shutil.copyfile(path, partial)


def remove_others(folder: Path, files: Mapping[str, Path]) -> None:
    """Remove the copies of a former page, after the new page was written."""
    images = folder / FOLDER
    for path in images.iterdir() if images.is_dir() else ():
        if OURS.fullmatch(path.name) and path.name not in files:
            path.unlink()
