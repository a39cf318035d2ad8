"""Names of files in a tar: key and suffix.

A name is KEY.SUFFIX with a known suffix (an image, ``txt``, ``json``, ``negative.png``). The key may hold dots
(``photo.v2.0001.jpg``). A file of another suffix belongs to the sample whose key it begins with
(``photo.v2.0001.depth.npy``).
"""

from __future__ import annotations

import re

IMAGES = ("png", "jpg", "jpeg", "webp", "jpe", "jfif", "gif", "bmp", "tif", "tiff", "avif", "jp2", "ppm", "pgm")
"""Suffixes of images. If a sample has several images, the pair gets the first in this order."""
NOT_READ_IMAGES = ("heic", "heif", "hif", "jxl", "svg", "psd", "dng", "cr2", "cr3", "nef", "arw", "raw", "exr", "hdr", "tga")
"""Suffixes of images that are not decoded here."""
_KNOWN = re.compile(rf"(.+?)\.((?:negative\.)?(?:{'|'.join(IMAGES)})|txt|json)\Z", re.IGNORECASE | re.DOTALL)
_DEBRIS = (".ds_store", "thumbs.db", "desktop.ini")


def known_name(name: str) -> tuple[str, str] | None:
    """Return key (with its folder) and lower-case suffix, or None for an unknown suffix."""
    folder, slash, file = name.rpartition("/")
    match = _KNOWN.match(file)
    return (folder + slash + match[1], match[2].lower()) if match else None


def other_name(name: str) -> tuple[str, str]:
    """Return key and suffix of a file with an unknown suffix that belongs to no sample."""
    folder, slash, file = name.rpartition("/")
    key, _, suffix = file.rpartition(".")
    return (folder + slash + key, suffix.lower()) if key else (name, "")


def is_expected(name: str) -> bool:
    """Return whether a system adds such files to tars or folders: ``.DS_Store``, ``Thumbs.db``, macOS's ``._x`` and
    ``__MACOSX``, webdataset's ``__x__``."""
    *folders, file = name.rstrip("/").split("/")
    if any(part.startswith("._") or part == "__MACOSX" for part in (*folders, file)):
        return True
    return file.lower() in _DEBRIS or (len(file) > 4 and file.startswith("__") and file.endswith("__"))


def is_statistics(key: str, suffixes: list[str]) -> bool:
    """Return whether a sample is img2dataset's file of statistics: ``00000_stats.json``."""
    return suffixes == ["json"] and key.endswith("_stats")
