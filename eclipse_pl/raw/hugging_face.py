"""HuggingFace: a data set of the Hugging Face hub, or a local folder that the package datasets reads, as a stream."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eclipse_pl.data.manifest import SkippedPair
from eclipse_pl.formats.parquet import first_line
from eclipse_pl.raw.listed import FolderFiles, NamelessRow, Sample, SampleReading
from eclipse_pl.raw.names import IMAGES
from eclipse_pl.raw.pairs import RawPair, pairs_of
from eclipse_pl.raw.reasons import MISSING, NO_IMAGE, NOT_READ, skipped
from eclipse_pl.raw.source import BrokenSourceError, Listing, Part, Source, require_shard_images, shard_stem
from eclipse_pl.raw.table import CAPTION_COLUMNS, FACTS, IMAGE_COLUMNS, chosen
from eclipse_pl.raw.texts import NEGATIVE, NoPairError, key_of

BYTES = ("image", "img", *IMAGES)
"""Names of columns that hold encoded images; img2dataset names them by their format."""
SPLITS_OF_DATASETS = {"train": "train", "validation": "val", "val": "val", "valid": "val", "dev": "val", "test": "test"}


@dataclass(frozen=True)
class HuggingFace(Source):
    """A data set with a column of images and a column of captions. Its files are read as a stream, and not kept.

    A file of the data set becomes a shard. Its splits train, validation and test are kept if there are several of them. The
    columns split, group, subset and negative_caption are used where they exist.

    Args:
        path: Name of a data set of the hub (``owner/name``), a Parquet file, a folder of Parquet, Arrow or image files, or a
            folder that ``save_to_disk`` wrote.
        config: Name of the configuration, for data sets that have several.
        split: The only split to read; by default all.
        revision: Branch, tag or commit of the hub.
        image: The column of images; by default the one of that type, or of bytes, or one with a usual name.
        caption: The column of captions, strings or lists of strings; by default one with a usual name.
        key: The column of names for the pairs; by default the split, the number of the file and the row. A row
            without a key is skipped.
        shard_images: Images of a shard, for a folder that ``save_to_disk`` wrote. Its rows are not cut into files.
    """

    path: str
    config: str | None = None
    split: str | None = None
    revision: str | None = None
    image: str | None = None
    caption: str | None = None
    key: str | None = None
    shard_images: int = 10_000

    def listing(self) -> Listing:
        require_shard_images(self.shard_images)
        splits, state = self._splits(), self._state()
        parts: dict[str, Part] = {}
        known = []
        for name, data in splits.items():
            columns = list(data.features or next(iter(data), {}))
            if not columns:
                continue
            image = self.image or image_column(data, columns, self.path)
            caption = chosen(columns, self.caption, CAPTION_COLUMNS, "caption", self.path)
            for required in filter(None, (self.image, self.key)):
                chosen(columns, required, (), "image" if required == self.image else "key", self.path)
            split = SPLITS_OF_DATASETS.get(name) if len(splits) > 1 else None
            rows = without_decoding(data, image)
            stem = shard_stem(name if self._is_file else f"{Path(os.path.abspath(self.path)).name}_{name}")
            used = (image, caption, self.key)
            for number in range(data.num_shards):
                parts[f"{stem}_{number:05d}.tar"] = HuggingFacePart(self.path, name, rows, number, used, split, state)
            of_split = (data.info.splits or {}).get(name)
            known.append(f"{of_split.num_examples:,} rows of {name}" if of_split else name)
        if not parts:
            raise ValueError(f"{self.path} holds no rows.")
        files = f"{len(parts)} part{'s' * (len(parts) != 1)}"
        return Listing(f"a data set of Hugging Face, in {files}: {', '.join(known)}", parts)

    @property
    def _is_file(self) -> bool:
        return Path(self.path).is_file()

    def _splits(self) -> dict[str, Any]:
        """The streams of the data set, by the name of their split."""
        try:
            import datasets
        except ImportError as error:
            raise ValueError(
                f"{self.path} is read by the package datasets, which is missing: pip install 'eclipse_pl[datasets]'."
            ) from error
        saved = any((Path(self.path) / name).is_file() for name in ("state.json", "dataset_dict.json"))
        try:
            if saved:
                found = datasets.load_from_disk(self.path)
                splits = dict(found) if isinstance(found, datasets.DatasetDict) else {"train": found}
                splits = {
                    name: data.to_iterable_dataset(num_shards=max(1, -(-len(data) // self.shard_images)))
                    for name, data in splits.items()
                }
            elif self._is_file:
                pattern = glob.escape(os.path.abspath(self.path))  # the package takes every path for a pattern
                rows = datasets.load_dataset("parquet", data_files=pattern, streaming=True)
                splits = {Path(self.path).stem: rows["train"]}
            else:
                # the package takes no "."
                place = os.path.abspath(self.path) if Path(self.path).is_dir() else self.path
                splits = dict(datasets.load_dataset(place, self.config, revision=self.revision, streaming=True))
        except Exception as error:  # the package raises a dozen classes, also for a missing network
            raise ValueError(f"The data set {self.path} cannot be opened: {first_line(error)}.") from error
        if self.split is not None:
            if self.split not in splits:
                raise ValueError(f"The data set {self.path} has no split {self.split!r}; it has {', '.join(splits)}.")
            return {self.split: splits[self.split]}
        return splits

    def _state(self) -> str:
        """The commit on the hub, or the sizes and times of the local files; "" if the hub does not answer."""
        place, reader = Path(self.path), FolderFiles(Path())
        if place.exists():
            files = [place] if self._is_file else sorted(path for path in place.rglob("*") if path.is_file())
            stamps = "\0".join(f"{path} {reader.stamp(str(path))}" for path in files)
            return hashlib.sha256(stamps.encode("utf-8", "surrogatepass")).hexdigest()
        from huggingface_hub import HfApi

        try:
            return str(HfApi().dataset_info(self.path, revision=self.revision).sha)
        except Exception:
            return ""


@dataclass(frozen=True, eq=False)
class HuggingFacePart(Part):
    """One file of a data set."""

    path: str
    split_name: str
    rows: Any
    number: int
    columns: tuple[str, str, str | None]
    """The columns of the image, the caption and the key."""
    split: str | None
    """The split of its pairs; None draws it."""
    state: str

    def __str__(self) -> str:
        return f"{self.path}, part {self.number} of {self.split_name}"

    @property
    def size(self) -> None:
        return None

    def version(self) -> str:
        return self.state and f"{self.state} {self.split} {self.columns}"

    def sha256(self) -> str:
        return self.read().to_the_end()

    def read(self) -> SampleReading:
        return SampleReading(self._samples())

    def _samples(self) -> Iterator[Sample]:
        image, caption, key = self.columns
        try:
            classes = class_names(self.rows)
            for row, found in enumerate(self.rows.shard(self.rows.num_shards, self.number)):
                cells = found | {name: names.get(found.get(name)) for name, names in classes.items()}
                about = {fact: cells[fact] for fact in FACTS if cells.get(fact) not in (None, "")}
                about |= {"caption": cells.get(caption), NEGATIVE: cells.get(NEGATIVE)}
                about = {**({"split": self.split} if self.split else {}), **about}
                place = f"{self.split_name}/{self.number:05d}/{row:06d}"
                try:
                    name = place if key is None else key_of(cells.get(key))
                except NoPairError as error:
                    yield NamelessRow(place, error)
                    continue
                yield HuggingFaceRow(name, cells.get(image), about)
        except Exception as error:  # damaged files and lost connections come in many classes
            raise BrokenSourceError(first_line(error)) from error


@dataclass(frozen=True, eq=False)
class HuggingFaceRow(Sample):
    """One row: its image as the package gives it without decoding, and the rest."""

    key: str
    image: Any
    about: dict[str, Any]

    def pairs(self) -> list[RawPair] | SkippedPair:
        content = self.image.get("bytes") if isinstance(self.image, dict) else self.image
        path = self.image.get("path") if isinstance(self.image, dict) else None
        if content is None and path:
            import fsspec

            try:
                with fsspec.open(path, "rb") as file:
                    content = file.read()
            except FileNotFoundError:
                return skipped(self.key, MISSING, path)
            except OSError as error:
                return skipped(self.key, NOT_READ, str(error))
        if not isinstance(content, bytes):
            return skipped(self.key, NO_IMAGE)
        return pairs_of(self.key, content, self.about)


def image_column(data: Any, columns: list[str], place: str) -> str:
    """The only column of images, or of their bytes, or the only one with a usual name.

    Bytes come before names: img2dataset's Parquet files have the image in ``jpg``, and its old place in ``url``.
    """
    from datasets import Features, Image

    features = Features(data.features or {})
    images = [name for name, kind in features.items() if isinstance(kind, Image)]
    images = images or columns_with_images(features.arrow_schema)
    return images[0] if len(images) == 1 else chosen(images or columns, None, IMAGE_COLUMNS, "image", place)


def columns_with_images(schema: Any) -> list[str]:
    """The columns of an Arrow schema that hold the images themselves."""
    import pyarrow as pa

    return [
        field.name
        for field in schema
        # the package datasets writes an image as {bytes, path}; others write bytes alone
        if (
            field.type.get_field_index("bytes") >= 0
            if pa.types.is_struct(field.type)
            else field.name.lower() in BYTES and (pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type))
        )
    ]


def class_names(data: Any) -> dict[str, dict[int, str]]:
    """The names of the numbers in columns of classes. The number -1 of an unknown class has none."""
    from datasets import ClassLabel

    features = (data.features or {}).items()
    return {name: dict(enumerate(kind.names)) for name, kind in features if isinstance(kind, ClassLabel)}


def without_decoding(data: Any, image: str) -> Any:
    """The rows with encoded images."""
    from datasets import Image

    kind = (data.features or {}).get(image)
    return data.cast_column(image, Image(decode=False)) if isinstance(kind, Image) else data
