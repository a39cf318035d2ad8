"""The folder that `clip-retrieval inference` writes: numbered parts of image embeddings, text embeddings and metadata."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data_prep.array_files import embeddings, parquet
from data_prep.text_columns import CAPTION, KEY, Column, chosen, column, of_array

KINDS = {"img_emb": "npy", "text_emb": "npy", "metadata": "parquet"}
"""Folders, with whose names their files' names begin, and the suffix of these files."""
WRITTEN_BY = {"img_emb": "--enable_image True", "text_emb": "--enable_text True", "metadata": "captions of the images"}
KEY_COLUMN = "image_path"


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of one number."""

    image_embed: Float[np.ndarray, "rows dim"]
    text_embed: Float[np.ndarray, "rows dim"]
    captions: Column
    keys: Column


def parts_of(folder: Path) -> list[dict[str, Path]]:
    """{kind: file} of every part, by number, whether the numbers are padded with zeros or not.

    ValueError for a number that is missing in the row 0, 1, 2, ... or in one of the kinds, for two files of one number, and
    for a file of another name.
    """
    found: dict[str, dict[int, Path]] = {kind: {} for kind in KINDS}
    for kind, suffix in KINDS.items():
        for path in sorted((folder / kind).glob(f"*.{suffix}")):
            if path.name.startswith("."):  # macOS and editors leave such files
                continue
            name = re.fullmatch(rf"{kind}_([0-9]+)\.{suffix}", path.name)
            if name is None:
                raise ValueError(f"{path} is no part by its name, which would be {kind}_0.{suffix}. Remove or rename it.")
            number = int(name[1])
            if number in found[kind]:
                raise ValueError(f"{found[kind][number]} and {path} are both part {number}. Remove the one that is not.")
            found[kind][number] = path
    if not any(found.values()):
        raise ValueError(f"There is no {folder / 'img_emb/img_emb_0.npy'}, so this is no folder of clip-retrieval.")
    for kind, files in found.items():
        if not files:
            raise ValueError(
                f"{folder} has no {kind}/{kind}_*.{KINDS[kind]}: clip-retrieval inference writes them with {WRITTEN_BY[kind]}."
            )
    numbers = range(max(max(files) for files in found.values()) + 1)
    for number in numbers:
        there = [files[number] for files in found.values() if number in files]
        absent = [kind for kind in KINDS if number not in found[kind]]
        if absent:
            names = ", ".join(f"{kind}/{kind}_{number}.{KINDS[kind]}" for kind in absent)
            whole = f"though there is {there[0]}" if there else f"though there are parts up to {numbers[-1]}"
            raise ValueError(
                f"Part {number} of {folder} is missing: no {names}, {whole}. Copy it again; where it was left "
                "out on purpose, number the others without a gap, from 0."
            )
    return [{kind: found[kind][number] for kind in KINDS} for number in numbers]


def read_parts(folder: Path, caption: str) -> list[Part]:
    """Every part that has a row. ValueError where the three files of a part differ in their number of rows."""
    parts: list[Part] = []
    taken: dict[str, str | None] | None = None
    start = 0
    for number, files in enumerate(parts_of(folder)):
        images, texts = (embeddings(str(files[kind]), "") for kind in ("img_emb", "text_emb"))
        table = parquet(str(files["metadata"]))
        rows = {"img_emb": _rows(images), "text_emb": _rows(texts), "metadata": _table_rows(files["metadata"])}
        if len(set(rows.values())) > 1:
            counted = ", ".join(f"{count} in {files[kind]}" for kind, count in rows.items())
            raise ValueError(f"The rows of part {number} do not belong together: {counted}. Make this part again.")
        if not rows["img_emb"]:
            continue
        place = str(files["metadata"])
        if taken is None:
            taken = {
                "caption": chosen(list(table), CAPTION, caption, place),
                "key": KEY_COLUMN if KEY_COLUMN in table else None,
            }
        for what, name in taken.items():
            if name is not None and name not in table:
                raise ValueError(f"{place} has no column {name!r}, as earlier parts have, for its {what}s.")
        assert taken["caption"] is not None
        key = taken["key"]
        parts.append(
            Part(
                images,
                texts,
                of_array(table[taken["caption"]](), CAPTION, f"{place}, column {taken['caption']!r}"),
                column(range(start, start + len(images)), KEY, place)
                if key is None
                else of_array(table[key](), KEY, f"{place}, column {key!r}"),
            )
        )
        start += len(images)
    return parts


def _rows(array: np.ndarray) -> int:
    return len(array) if array.ndim else 1


def _table_rows(path: Path) -> int:
    from pyarrow.parquet import ParquetFile

    return int(ParquetFile(path).metadata.num_rows)
