"""ImageFolder: a folder of images with their captions in files of the same name, at any depth."""

from __future__ import annotations

import os
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from eclipse_pl.data.manifest import SkippedPair
from eclipse_pl.raw.listed import FolderFiles, ListedSample, cut_in_parts
from eclipse_pl.raw.names import IMAGES, is_expected, is_statistics, known_name, other_name
from eclipse_pl.raw.pairs import RawPair
from eclipse_pl.raw.reasons import NO_CAPTION, NO_IMAGE, NOT_READ, SAME_NAME, UNUSED, skipped
from eclipse_pl.raw.source import Listing, Source
from eclipse_pl.raw.tar_samples import TarSample, is_whole
from eclipse_pl.raw.tars import sample_pairs, unused_images


@dataclass(frozen=True)
class ImageFolder(Source):
    """A folder of images with a ``.txt`` (or ``.json``) of the same name beside each one.

    The files are those of a webdataset tar (see `tars`).

    Args:
        folder: The folder. Folders inside it are read too; links to folders are not followed.
        shard_images: Images of a shard.
    """

    folder: str
    shard_images: int = 10_000

    def listing(self) -> Listing:
        samples, others = self._samples()
        if not any(isinstance(sample, FolderSample) and sample.files for sample in samples):
            unknown = sum(len(sample.other) for sample in samples if isinstance(sample, FolderSample))
            raise ValueError(
                f"{self.folder} holds no image with a caption: {others + unknown} files of other kinds. An image folder has "
                "KEY.jpg (or .png, .webp ...) and KEY.txt. Other sources are tars, tables, COCO's JSON, data sets of the hub."
            )
        images = sum(isinstance(sample, FolderSample) and sample.has_image for sample in samples)
        stem = Path(self.folder).resolve().name
        parts = cut_in_parts(samples, self.folder, stem, self.shard_images, others)
        return Listing(f"an image folder: {images:,} images", parts)

    def _samples(self) -> tuple[list[ListedSample], int]:
        """All samples by key, and the number of files that are expected beside them."""
        root, others = Path(self.folder), 0
        unknown: list[str] = []
        files: dict[str, dict[str, Path]] = {}
        left_out: dict[str, list[ListedSample]] = {}
        for folder, folders, names in os.walk(root, onerror=_refuse):
            folders.sort()
            for name in sorted(names):
                path = Path(folder) / name
                if is_expected(name) or name.removesuffix(".parquet") in folders:  # img2dataset's table of that folder
                    others += 1
                elif (known := known_name(str(path.relative_to(root)))) is None:
                    unknown.append(str(path.relative_to(root)))
                elif files.setdefault(known[0], {}).setdefault(known[1], path) != path:
                    left_out.setdefault(known[0], []).append(UnusedFile(known[0], path, SAME_NAME, path.name))
        for key, of_key in files.items():
            for suffix in unused_images(of_key) if is_whole(set(of_key)) else []:
                unused = UnusedFile(key, of_key.pop(suffix), UNUSED, f"not its {suffix}")
                left_out.setdefault(key, []).append(unused)
        other: dict[str, list[str]] = {}
        for name in unknown:
            key, suffix = _owner(name, files)
            other.setdefault(key, []).append(suffix)
        for key in [key for key, of_key in files.items() if is_statistics(key, [*of_key, *other.get(key, [])])]:
            others += len(files.pop(key)) + len(left_out.pop(key, []))
        keys = sorted(files.keys() | other.keys())
        samples = {key: FolderSample(key, files.get(key, {}), tuple(other.get(key, ()))) for key in keys}
        return [one for key in keys for one in (samples[key], *left_out.get(key, []))], others


def _owner(name: str, keys: Container[str]) -> tuple[str, str]:
    """The longest key that a file of an unknown suffix begins with, or a key of its own; and the rest of its name."""
    folder, slash, file = name.rpartition("/")
    parts = file.split(".")
    for count in range(len(parts) - 1, 0, -1):
        key = folder + slash + ".".join(parts[:count])
        if key in keys:
            return key, ".".join(parts[count:]).lower()
    return other_name(name)


def _refuse(error: OSError) -> None:
    raise ValueError(
        f"The folder {error.filename} cannot be listed ({error.strerror or error}). Check that it is there and that you may "
        "read it, or move it out of the source."
    ) from error


@dataclass(frozen=True, eq=False)
class FolderSample(ListedSample):
    """The files of one key, by their suffix."""

    key: str
    files: dict[str, Path]
    other: tuple[str, ...] = ()
    """Unknown suffixes."""

    @property
    def has_image(self) -> bool:
        return not self.files.keys().isdisjoint(IMAGES)

    def stamp(self) -> str:
        reader = FolderFiles(Path())
        unknown = "" if is_whole(set(self.files)) else " ".join(self.other)
        return unknown + " ".join(f"{suffix} {reader.stamp(str(path))}" for suffix, path in self.files.items())

    def pairs(self) -> list[RawPair] | SkippedPair:
        if not is_whole(set(self.files)):
            missing = NO_CAPTION if self.has_image else NO_IMAGE
            return skipped(self.key, missing, held=sorted([*self.files, *self.other]))
        reader, contents = FolderFiles(Path()), {}
        for suffix, path in self.files.items():
            try:
                contents[suffix] = reader.read(str(path))
            except OSError as error:
                return skipped(self.key, NOT_READ, f"its {suffix} is not: {error.strerror or error}")
        return sample_pairs(TarSample(self.key, contents))


@dataclass(frozen=True, eq=False)
class UnusedFile(ListedSample):
    """A file beside another one of its key that is used: ``1.jpg`` beside ``1.JPG`` or ``1.png``. It is not read."""

    key: str
    path: Path
    kind: str
    detail: str

    def stamp(self) -> str:
        return FolderFiles(Path()).stamp(str(self.path))

    def pairs(self) -> SkippedPair:
        return skipped(self.key, self.kind, self.detail)
