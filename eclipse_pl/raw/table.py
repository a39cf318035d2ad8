"""Table: a CSV, TSV, JSON lines or Parquet file that names image files and their captions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eclipse_pl.formats.columns import usual_column
from eclipse_pl.formats.file_kind import kind_of
from eclipse_pl.formats.parquet import parquet
from eclipse_pl.formats.text_table import DELIMITERS, JSON_LINES, described, read_csv, read_json_lines
from eclipse_pl.raw.listed import FolderFiles, ListedImage, ListedSample, NamelessRow, cut_in_parts, require_images
from eclipse_pl.raw.source import Listing, Source
from eclipse_pl.raw.texts import CAPTIONS, NEGATIVE, NoPairError, key_of

IMAGE_COLUMNS = ("image", "image_path", "path", "filepath", "file_path", "file", "filename", "file_name", "img", "url")
CAPTION_COLUMNS = (*CAPTIONS, "texts", "prompt", "title")
FACTS = ("split", "group", "subset")


@dataclass(frozen=True)
class Table(Source):
    """A table with a row for each pair, or for each image.

    Rows of one image are one sample with several captions. Where they exist, the columns split, group, subset and
    negative_caption are used.

    Args:
        path: A file called .csv, .tsv, .jsonl or .ndjson, or a Parquet file.
        image: The column of paths (or ``file:`` URLs); by default one with a usual name, such as image_path.
        caption: The column of captions: one string, or in JSON lines and Parquet a list of strings; by default one with a
            usual name, such as caption.
        key: The column of names for the pairs; by default a pair is named by its path. A row
            without a key is skipped.
        folder: Where relative paths begin; by default the folder of the table.
        shard_images: Images of a shard.
        most_missing: Largest share of images that may be missing. If more are missing, nothing is embedded.
    """

    path: str
    image: str | None = None
    caption: str | None = None
    key: str | None = None
    folder: str | None = None
    shard_images: int = 10_000
    most_missing: float = 0.1

    def listing(self) -> Listing:
        samples = self._samples()
        images = [sample for sample in samples if isinstance(sample, ListedImage)]
        remedy = f"Paths begin at {self._folder}; another folder is given as --source.folder FOLDER."
        require_images(images, self.path, self.most_missing, remedy)
        captions = sum(len(image.about["caption"]) for image in images)
        parts = cut_in_parts(samples, self.path, Path(self.path).stem, self.shard_images)
        return Listing(f"a table: {len(images):,} images, {captions:,} captions", parts)

    @property
    def _folder(self) -> Path:
        return Path(self.path).parent if self.folder is None else Path(self.folder)

    def _samples(self) -> list[ListedSample]:
        """One sample for each image, in order of first use, and one for each row without a key."""
        named = [name for name in (self.image, self.caption, self.key) if name is not None]
        rows = table_rows(self.path, named)
        if not rows:
            raise ValueError(f"{self.path} has no rows. A table has a row for each pair, with its image and its caption.")
        columns = list(dict.fromkeys(name for _, cells in rows[:1000] for name in cells))
        image = chosen(columns, self.image, IMAGE_COLUMNS, "image", self.path)
        caption = chosen(columns, self.caption, CAPTION_COLUMNS, "caption", self.path)
        if self.key is not None:
            chosen(columns, self.key, (), "key", self.path)
        files, images, samples = FolderFiles(self._folder), dict[tuple[Any, ...], ListedImage](), list[ListedSample]()
        negatives = any(NEGATIVE in cells for _, cells in rows)
        for place, cells in rows:
            name = _text(cells.get(image))
            name = _name(name, files) if isinstance(name, str) else ""  # "": the pair is skipped, because it has no image
            if re.match(r"https?://", name):
                raise ValueError(
                    f"{self.path}, {place}: {name[:80]} is the URL of a web server. Download the images first, for example "
                    "with img2dataset, and embed its tars; a table names local files."
                )
            facts = {fact: cell for fact in FACTS if (cell := _plain(cells.get(fact))) not in (None, "")}
            try:
                key = name or place if self.key is None else key_of(cells.get(self.key))
            except NoPairError as error:
                samples.append(NamelessRow(place, error))
                continue
            of_image = (name or place, *map(str, facts.items()))
            if of_image not in images:
                about = {"caption": [], **({NEGATIVE: []} if negatives else {}), **facts}
                samples.append(images.setdefault(of_image, ListedImage(key, name, about, files)))
            kept = images[of_image]
            captions = _listed(_text(cells.get(caption)))
            kept.about["caption"] += captions
            if self.key is not None:
                kept.keys.extend([key] * len(captions))
            if negatives:
                kept.about[NEGATIVE] += _negatives(cells, len(captions), f"{self.path}, {place}")
        return samples


def table_rows(path: str, named: Sequence[str] = ()) -> list[tuple[str, dict[str, Any]]]:
    """The rows of a table, each with its place for messages. By the columns ``named`` or usual ones its separator is found.

    Raises:
        ValueError: There is no such table, or it is damaged.
    """
    suffix = Path(path).suffix.lower()
    known = list(dict.fromkeys(name.lower() for name in (*named, *IMAGE_COLUMNS, *CAPTION_COLUMNS)))
    if not Path(path).is_file():
        raise ValueError(f"There is no table {path}.")
    if kind_of(path) == "Parquet":
        columns = parquet(path)
        used = [name for name in columns if name in named or name.strip().lower() in (*known, *FACTS, NEGATIVE)]
        used = used or list(columns)[:1]  # the rows are counted, though none of their columns has a usual name
        rows = zip(*(columns[name]() for name in used), strict=True)
        empty = dict.fromkeys(columns)  # other columns, such as other embeddings, are not read
        return [(f"row {row}", {**empty, **dict(zip(used, cells, strict=True))}) for row, cells in enumerate(rows)]
    if suffix in DELIMITERS:
        return [(f"line {row.line}", row.cells) for row in read_csv(Path(path), known)]
    if suffix in JSON_LINES:
        lines = read_json_lines(Path(path))
        if strange := next(((line, value) for line, value in lines if not isinstance(value, dict)), None):
            raise ValueError(f"{path}, line {strange[0]}, is {described(strange[1])}, and a record with columns is expected.")
        return [(f"line {line}", value) for line, value in lines]
    raise ValueError(f"{path} is no table: a table is called {', '.join([*DELIMITERS, *JSON_LINES])}, or is a Parquet file.")


def chosen(columns: Sequence[str], name: str | None, usual: Sequence[str], kind: str, place: str) -> str:
    """The column ``name``, or the only column with a usual name.

    Raises:
        ValueError: It is missing, or several columns have a usual name.
    """
    option = f"--source.{kind}"
    if name is None:
        return usual_column(columns, usual, kind, option, place)
    if name not in columns:
        raise ValueError(f"{place} has no column {name!r} ({option}); it has {', '.join(columns) or 'none'}.")
    return name


def _negatives(cells: dict[str, Any], captions: int, place: str) -> list[Any]:
    negatives = _listed(_text(cells.get(NEGATIVE)))
    if not captions or not any(negatives):
        return [None] * captions
    if len(negatives) != captions:
        raise ValueError(
            f"{place}, has {len(negatives)} entries in the column {NEGATIVE} for {captions} captions. Give one for each "
            "caption, null where there is none."
        )
    return negatives


def _name(written: str, files: FolderFiles) -> str:
    """The name of an image without blanks around it, unless a file's own name has them."""
    name = written.strip()
    return written if name and name != written and files.stamp(written) != "missing" else name


def _plain(value: Any) -> Any:
    text = _text(value)
    return text.strip() if isinstance(text, str) else text


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _text(value: Any) -> Any:
    """Parquet's strings come as bytes. Bytes that are no UTF-8 stay, and cost the pairs of their image."""
    if isinstance(value, list):
        return [_text(one) for one in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    return value
