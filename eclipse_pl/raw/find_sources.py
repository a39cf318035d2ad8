"""Find sources: from what a user names (a path, a URL, a pattern, or a Source) to the parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eclipse_pl.files import require_utf8
from eclipse_pl.formats.file_kind import kind_of
from eclipse_pl.formats.parquet import parquet
from eclipse_pl.formats.text_table import DELIMITERS, JSON_LINES
from eclipse_pl.raw.coco import Coco
from eclipse_pl.raw.hugging_face import HuggingFace, columns_with_images
from eclipse_pl.raw.image_folder import ImageFolder
from eclipse_pl.raw.names import IMAGES, is_expected, known_name
from eclipse_pl.raw.source import Part, Source
from eclipse_pl.raw.table import Table
from eclipse_pl.raw.tar_patterns import names_tars, tar_ending
from eclipse_pl.raw.tars import Tars

HUB = "hf://datasets/"
KINDS: dict[str, type[Source]] = {kind.__name__: kind for kind in (Tars, ImageFolder, Table, Coco, HuggingFace)}
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Tables that the hub's image folders hold."""
_TABLES = (*DELIMITERS, *JSON_LINES)

Given = str | Mapping[str, Any] | Source
"""A path, URL or pattern; or a Source; or its class and options from a manifest."""


@dataclass(frozen=True)
class FoundSources:
    """The parts of all sources."""

    parts: dict[str, Part]
    """{name of the new shard: part}."""
    lines: list[str]
    """A line for the user on each source."""
    given: list[str | dict[str, Any]]
    """The sources for a manifest, from which `find_sources` finds them again."""


def find_sources(given: Sequence[Given]) -> FoundSources:
    """Find the parts of all sources.

    Raises:
        ValueError: A source is missing or of no known kind, its name is not UTF-8, or two parts have the same name.
    """
    if not given:
        raise ValueError("No source was given. `source` takes tars such as 'raw/*.tar', a folder, a table or COCO's JSON.")
    sources = [source if isinstance(source, Source | str) else _from_manifest(source) for source in given]
    for text in _texts([source if isinstance(source, str) else source.to_json() for source in sources]):
        require_utf8(text, "The name of the source")  # the manifest keeps it
    strings = [source for source in sources if isinstance(source, str)]
    tars = [one for one in strings if names_tars(one)]
    kinds = [source if isinstance(source, Source) else source_of(source) for source in sources if source not in tars]
    parts: dict[str, Part] = {}
    lines = []
    for source in ([Tars(tars)] if tars else []) + kinds:
        listing = source.listing()
        if twice := listing.parts.keys() & parts.keys():
            name = min(twice)
            raise ValueError(
                f"The sources {parts[name]} and {listing.parts[name]} would both become the shard {name}. Rename one of them, "
                "or embed them into two folders."
            )
        parts |= listing.parts
        lines.append(f"found {listing.found}")
    return FoundSources(parts, lines, [one if isinstance(one, str) else one.to_json() for one in sources])


def _texts(given: Any) -> Iterator[str]:
    """All strings in sources and their options."""
    if isinstance(given, str):
        yield given
    elif isinstance(given, Mapping | list | tuple):
        for one in given.values() if isinstance(given, Mapping) else given:
            yield from _texts(one)


def source_of(path: str) -> Source:
    """The source at a path, URL or pattern, by what lies there.

    Raises:
        ValueError: Nothing lies there, or it is of no known kind.
    """
    if names_tars(path):
        return Tars(path)
    if path.startswith(HUB):
        return HuggingFace(path.removeprefix(HUB))
    place = Path(path).expanduser()
    if place.is_dir():
        return _folder(place)
    suffix = place.suffix.lower()
    if not place.is_file():
        raise ValueError(
            f"There is no source {path}. `source` takes webdataset tars ('raw/{{0000..0009}}.tar', 'raw/*.tar', or URLs), a "
            f"folder of images with text files, a table ({', '.join(_TABLES)}, Parquet), MSCOCO's captions (.json), or a data "
            f"set of the Hugging Face hub ({HUB}OWNER/NAME)."
        )
    if kind_of(place) == "Parquet":
        return HuggingFace(str(place)) if _holds_images(place) else Table(str(place))
    if suffix in _TABLES:
        return Table(str(place))
    if suffix == ".json":
        return Coco(str(place))
    raise ValueError(
        f"The source {path} is of no known kind. Sources are webdataset tars, tables ({', '.join(_TABLES)}, Parquet), "
        "MSCOCO's captions (.json) and folders. An archive of images with text files is unpacked first."
    )


def _folder(folder: Path) -> Source:
    names = {path.name for path in folder.iterdir()}
    if table := next((name for name in METADATA if name in names), None):
        return Table(str(folder / table))
    if names & {"state.json", "dataset_dict.json"}:
        return HuggingFace(str(folder))
    endings = {tar_ending(name) for name in names if not name.startswith(".")} - {""}
    tars = Tars([f"{folder}/*{ending}" for ending in sorted(endings)])
    if ".tar" in map(str.lower, endings):
        return tars
    # img2dataset writes Parquet files without images beside its tars and its folders of images
    if next(folder.rglob("*.arrow"), None) or any(map(_holds_images, sorted(folder.rglob("*.parquet")))):
        return HuggingFace(str(folder))
    # a packed archive beside images may hold a copy of them
    return tars if endings and not any(_is_image(path.name) for path in folder.rglob("*")) else ImageFolder(str(folder))


def _is_image(name: str) -> bool:
    known = None if is_expected(name) else known_name(name)
    return known is not None and known[1] in IMAGES


def _holds_images(path: Path) -> bool:
    """Return whether a Parquet file holds the images themselves.

    Raises:
        ValueError: pyarrow is missing, or the file is damaged.
    """
    parquet(str(path))

    from pyarrow.parquet import ParquetFile

    return bool(columns_with_images(ParquetFile(path).schema_arrow))


def _from_manifest(saved: Mapping[str, Any]) -> Source:
    options = {name: value for name, value in saved.items() if name != "class"}
    try:
        return KINDS[saved["class"]](**options)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"The manifest names the source {dict(saved)}, which this eclipse_pl does not know ({error})."
        ) from error
