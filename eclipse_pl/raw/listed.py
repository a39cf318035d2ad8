"""Listed samples: sources that know all their samples before they read an image, such as a table or a folder."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

from eclipse_pl.data.manifest import SkippedPair
from eclipse_pl.raw.pairs import RawPair, pairs_of
from eclipse_pl.raw.reasons import MISSING, NO_IMAGE, NOT_READ, skipped
from eclipse_pl.raw.source import Part, Reading, require_shard_images, shard_stem
from eclipse_pl.raw.tar_files import MOST_BYTES
from eclipse_pl.raw.texts import NoPairError


class Sample(ABC):
    """One image with its captions. It is read when it is needed."""

    key: str

    @abstractmethod
    def pairs(self) -> list[RawPair] | SkippedPair:
        """Read the image. Return one pair per caption, or the reason why there is none."""


class ListedSample(Sample):
    """A sample that is known before it is read."""

    @abstractmethod
    def stamp(self) -> str:
        """Describe the present state without reading the image."""


@dataclass(frozen=True, eq=False)
class NamelessRow(ListedSample):
    """A row whose cell gives no key. It is named by its place."""

    key: str
    error: NoPairError

    def stamp(self) -> str:
        return f"{self.error.kind} {self.error.detail}"

    def pairs(self) -> SkippedPair:
        return skipped(self.key, self.error.kind, self.error.detail)


@dataclass(frozen=True, eq=False)
class ListedPart(Part):
    """Some samples of a source."""

    title: str
    samples: Sequence[ListedSample]
    others: int = 0
    """Entries of the source that are no samples."""

    def __str__(self) -> str:
        return self.title

    @property
    def size(self) -> int:
        return len(self.samples)

    def version(self) -> str:
        digest = hashlib.sha256()
        for sample in self.samples:
            digest.update(f"{sample.key}\0{sample.stamp()}\0".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def sha256(self) -> str:
        return self.read().to_the_end()

    def read(self) -> SampleReading:
        return SampleReading(self.samples, self.others)


class SampleReading(Reading):
    """One pass over samples. ``position`` counts them."""

    def __init__(self, samples: Iterable[Sample], others: int = 0) -> None:
        self._samples, self.others = samples, others
        self._digest = hashlib.sha256()

    def __iter__(self) -> Iterator[list[RawPair] | SkippedPair]:
        for sample in self._samples:
            found = sample.pairs()
            self.position += 1
            self._digest.update(content_of(found))
            yield found

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def to_the_end(self) -> str:
        """Read all samples for their hash alone."""
        for _ in self:
            pass
        return self.sha256


def content_of(found: list[RawPair] | SkippedPair) -> bytes:
    """All that a shard keeps of a sample, as bytes for a hash."""
    if isinstance(found, SkippedPair):
        return repr(found).encode("utf-8", "surrogatepass")
    facts = [(pair.key, pair.caption, pair.split, pair.group, pair.subset, pair.image_number) for pair in found]
    negative = hashlib.sha256(found[0].negative or b"").hexdigest()
    negative_captions = [pair.negative_caption for pair in found]
    return repr((facts, negative, *([negative_captions] if any(negative_captions) else []))).encode("utf-8", "surrogatepass")


def cut_in_parts(samples: Sequence[ListedSample], title: str, stem: str, size: int, others: int = 0) -> dict[str, Part]:
    """Return {name of the shard: part} with ``size`` samples in each part but the last. The first part counts ``others``."""
    require_shard_images(size)
    starts = range(0, len(samples), size)
    return {
        f"{shard_stem(stem)}_{number:05d}.tar": ListedPart(
            f"{title}, images {start} to {min(start + size, len(samples)) - 1}",
            samples[start : start + size],
            0 if number else others,
        )
        for number, start in enumerate(starts)
    }


class ImageFiles(ABC):
    """Where the images of a list lie."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Read a file. FileNotFoundError if it is missing, another OSError if it cannot be read."""

    @abstractmethod
    def stamp(self, name: str) -> str:
        """Size and time of a file, or "missing"."""


@dataclass(frozen=True)
class FolderFiles(ImageFiles):
    """Files by their path, absolute or relative to ``folder``, or by a ``file:`` URL."""

    folder: Path

    def path(self, name: str) -> Path:
        if name.startswith("file:"):
            name = url2pathname(name.removeprefix("file:").removeprefix("//localhost").removeprefix("//"))
        return self.folder / name

    def read(self, name: str) -> bytes:
        path = self.path(name)
        if path.is_dir():
            raise OSError("it is a folder")
        if path.stat().st_size > MOST_BYTES:
            raise OSError(f"it is larger than {MOST_BYTES >> 20} MiB")
        return path.read_bytes()

    def stamp(self, name: str) -> str:
        try:
            status = self.path(name).stat()
        except (OSError, ValueError):
            return "missing"
        return f"{status.st_size} bytes, modified {status.st_mtime_ns}"


@dataclass(frozen=True, eq=False)
class ZipFiles(ImageFiles):
    """Files in a zip archive, which stays packed."""

    path: Path
    _open: list[zipfile.ZipFile] = field(default_factory=list)

    @property
    def archive(self) -> zipfile.ZipFile:
        """The open archive.

        Raises:
            ValueError: It is damaged.
        """
        if not self._open:
            try:
                self._open.append(zipfile.ZipFile(self.path))
            except (zipfile.BadZipFile, OSError) as error:
                raise ValueError(f"{self.path} is no zip archive, or it is damaged ({error}). Copy it again.") from error
        return self._open[0]

    def read(self, name: str) -> bytes:
        try:
            entry = self.archive.getinfo(name)
        except KeyError:
            raise FileNotFoundError(name) from None
        if entry.file_size > MOST_BYTES:
            raise OSError(f"it is larger than {MOST_BYTES >> 20} MiB")
        try:
            with self.archive.open(entry) as file:
                return file.read(MOST_BYTES)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, zlib.error) as error:
            raise OSError(f"{self.path} does not give it ({error})") from error

    def stamp(self, name: str) -> str:
        try:
            entry = self.archive.getinfo(name)
        except KeyError:
            return "missing"
        return f"{entry.file_size} bytes, checksum {entry.CRC}"


@dataclass(frozen=True, eq=False)
class ListedImage(ListedSample):
    """A sample whose list names the image's file and everything else of it (see `pairs.pairs_of`). ``name`` may be ""."""

    key: str
    name: str
    about: dict[str, Any]
    files: ImageFiles
    keys: list[str] = field(default_factory=list)
    """The name of each caption, if a list names captions and not images."""

    def stamp(self) -> str:
        named = f"{self.keys} " if self._has_keys else ""
        return f"{named}{self.about} {self.files.stamp(self.name)}"

    def pairs(self) -> list[RawPair] | SkippedPair:
        if not self.name:
            return skipped(self.key, NO_IMAGE)
        try:
            image = self.files.read(self.name)
        except (FileNotFoundError, NotADirectoryError):
            return skipped(self.key, MISSING, self.name)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            return skipped(self.key, NOT_READ, str(error))
        found = pairs_of(self.key, image, self.about)
        return self._renamed(found) if isinstance(found, list) and self._has_keys else found

    @property
    def _has_keys(self) -> bool:
        return len({self.key, *self.keys}) > 1

    def _renamed(self, pairs: list[RawPair]) -> list[RawPair]:
        """The pairs by the names of their captions: KEY, OTHER, OTHER#1 ..."""
        names = [key for key, caption in zip(self.keys, self.about["caption"], strict=True) if caption.strip()]
        before = defaultdict[str, Iterator[int]](count)
        numbered = [(name, next(before[name])) for name in names]
        keys = [f"{name}#{number}" if number else name for name, number in numbered]
        return [replace(pair, key=key) for pair, key in zip(pairs, keys, strict=True)]


def require_images(images: Sequence[ListedImage], title: str, most_missing: float, remedy: str) -> None:
    """Look for a thousand of the images, evenly drawn, before anything is embedded.

    Raises:
        ValueError: More than the share ``most_missing`` of them is missing.
    """
    if not 0 <= most_missing <= 1:
        raise ValueError(f"most_missing is {most_missing}; it is a share of the images, from 0 to 1.")
    looked_for = images[:: max(1, len(images) // 1000)]
    missing = [image for image in looked_for if image.files.stamp(image.name) == "missing"]
    if len(missing) > most_missing * len(looked_for):
        of = "its" if len(looked_for) == len(images) else "a sample of its"
        raise ValueError(
            f"{title} names images that are missing: {len(missing):,} of {of} {len(looked_for):,}, first {missing[0].name}. "
            f"{remedy} A share of missing images up to most_missing={most_missing:g} is skipped and listed."
        )
