"""What the name of a file in a tar says: whose it is, what it is, or that no pair can be expected of it.

A name is KEY.SUFFIX, with a suffix that is known (an image, ``txt``, ``json``, ``negative.png``); the key may hold dots
(``photo.v2.0001.jpg``). Other suffixes belong to the sample whose key they follow (``photo.v2.0001.depth.npy``).
"""

from __future__ import annotations

import re

IMAGES = ("png", "jpg", "jpeg", "webp", "jpe", "jfif", "gif", "bmp", "tif", "tiff", "avif", "jp2", "ppm", "pgm")
"""Suffixes of images; where a sample has several images, the first in this order is the pair's."""
_KNOWN = re.compile(rf"(.+?)\.((?:negative\.)?(?:{'|'.join(IMAGES)})|txt|json)\Z", re.IGNORECASE | re.DOTALL)
_DEBRIS = (".ds_store", "thumbs.db", "desktop.ini")


def known_name(name: str) -> tuple[str, str] | None:
    """Key (with its folder) and lower-case suffix; None where the suffix is not known."""
    folder, slash, file = name.rpartition("/")
    match = _KNOWN.match(file)
    return (folder + slash + match[1], match[2].lower()) if match else None


def other_name(name: str) -> tuple[str, str]:
    """Key and suffix of a file whose suffix is not known and that follows no sample's key."""
    folder, slash, file = name.rpartition("/")
    key, _, suffix = file.rpartition(".")
    return (folder + slash + key, suffix.lower()) if key else (name, "")


def is_expected(name: str) -> bool:
    """Whether systems leave such files in tars: macOS's ``._x`` and ``__MACOSX``, webdataset's own ``__x__``."""
    *folders, file = name.rstrip("/").split("/")
    if any(part.startswith("._") or part == "__MACOSX" for part in (*folders, file)):
        return True
    return file.lower() in _DEBRIS or (len(file) > 4 and file.startswith("__") and file.endswith("__"))


def is_statistics(key: str, suffixes: list[str]) -> bool:
    """Whether a sample is what img2dataset leaves beside its tars: ``00000_stats.json``."""
    return suffixes == ["json"] and key.endswith("_stats")
