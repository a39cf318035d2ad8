"""Tars: webdataset tars, local or remote, as img2dataset writes them. Each tar is a part.

KEY.png | .jpg | .webp ...       image (suffixes of `names.IMAGES`, in any case)
KEY.txt                          caption; if it is missing or blank, KEY.json holds the caption (`texts`)
KEY.json                         optional: captions and negative captions; "split" (train, val or test), "group" and "subset"
KEY.negative.png (or .jpg ...)   optional: hard negative, the image of a caption with swapped attributes
"""

from __future__ import annotations

import http.client
import json
import re
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from eclipse_pl.data.manifest import SkippedPair
from eclipse_pl.raw.names import IMAGES
from eclipse_pl.raw.pairs import RawPair, pairs_of
from eclipse_pl.raw.reasons import UNUSED, skipped
from eclipse_pl.raw.remote_file import state_of
from eclipse_pl.raw.source import Listing, Part, Reading, Source
from eclipse_pl.raw.tar_files import source_sha256
from eclipse_pl.raw.tar_patterns import find_tars
from eclipse_pl.raw.tar_samples import TarSample, TarSamples
from eclipse_pl.raw.texts import NoPairError, about_of

SECONDS = 20
"""Timeout of a request."""
NEGATIVES = tuple(f"negative.{suffix}" for suffix in IMAGES)


@dataclass(frozen=True)
class Tars(Source):
    """Webdataset tars.

    Args:
        tars: A pattern, path or URL (`tar_patterns`), or several of them.
    """

    tars: str | list[str]

    def listing(self) -> Listing:
        named = find_tars([self.tars] if isinstance(self.tars, str) else self.tars)
        counts = [_counted(tar) for tar in named.values()]
        images = f": {sum(filter(None, counts)):,} images" if None not in counts else ""
        found = f"{len(named)} tar{'s' * (len(named) != 1)}{images}"
        return Listing(found, {name: TarPart(tar) for name, tar in named.items()})


@dataclass(frozen=True)
class TarPart(Part):
    """One tar."""

    tar: str

    def __str__(self) -> str:
        return self.tar

    @property
    def size(self) -> int | None:
        path = Path(self.tar)
        return path.stat().st_size if path.is_file() else None

    def version(self) -> str:
        """Size and time of a local file, the server's stamp of a URL, otherwise ""."""
        path = Path(self.tar)
        if path.is_file():
            status = path.stat()
            return f"{status.st_size} bytes, modified {status.st_mtime_ns}"
        if not re.match(r"https?://", self.tar):
            return "" if self.tar.startswith("pipe:") else state_of(self.tar)
        try:
            with urllib.request.urlopen(urllib.request.Request(self.tar, method="HEAD"), timeout=SECONDS) as answer:
                stamp = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
                return f"{answer.headers.get('Content-Length')} bytes, {stamp}" if stamp else ""
        except (OSError, ValueError, http.client.HTTPException):
            return ""

    def sha256(self) -> str:
        return source_sha256(self.tar)

    def read(self) -> TarReading:
        return TarReading(self.tar)


class TarReading(Reading):
    """One pass over a tar."""

    def __init__(self, tar: str) -> None:
        self._samples = TarSamples(tar)

    def __iter__(self) -> Iterator[list[RawPair] | SkippedPair]:
        for sample in self._samples:
            if isinstance(sample, SkippedPair):
                yield sample
                continue
            yield (found := sample_pairs(sample))
            if not isinstance(found, SkippedPair):  # otherwise the reason is that of all files of the key
                yield from (skipped(sample.key, UNUSED, f"not its {suffix}") for suffix in unused_images(sample.files))

    @property
    def position(self) -> int:  # type: ignore[override]
        return self._samples.position

    @property
    def others(self) -> int:  # type: ignore[override]
        return self._samples.others

    @property
    def sha256(self) -> str:
        return self._samples.sha256


def sample_pairs(sample: TarSample) -> list[RawPair] | SkippedPair:
    """Return one pair per caption of a sample with an image, or the reason why there is none."""
    image = next(sample.files[suffix] for suffix in IMAGES if suffix in sample.files)
    negative = next((sample.files[suffix] for suffix in NEGATIVES if suffix in sample.files), None)
    try:
        about = about_of(sample.files.get("json"))
    except NoPairError as error:
        return skipped(sample.key, error.kind, error.detail)
    return pairs_of(sample.key, image, about, sample.files.get("txt"), negative)


def unused_images(suffixes: Iterable[str]) -> list[str]:
    """The suffixes of the images and negatives of a key that a pair does not get, because it gets others."""
    held = set(suffixes)
    return sorted(suffix for kinds in (IMAGES, NEGATIVES) for suffix in [one for one in kinds if one in held][1:])


def _counted(tar: str) -> int | None:
    """Number of images in a tar by img2dataset's file of statistics beside it, or None without one."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return int(json.loads(Path(re.sub(r"\.tar$", "_stats.json", tar)).read_text())["successes"])
    return None
