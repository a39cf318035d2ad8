"""Existing pairs of embeddings, as other tools write them: arrays and captions, one file of both, or clip-retrieval's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from data_prep.array_files import arrays_in, embeddings, numbers
from data_prep.clip_retrieval import read_parts
from data_prep.text_columns import CAPTION, KEY, Column, column, load_column, of_array


@dataclass(frozen=True)
class ArrayNames:
    """Names of the arrays of a file, or of the columns of a table. With ``key`` null the rows are numbered."""

    image_embed: str = "image_embed"
    text_embed: str = "text_embed"
    caption: str = "caption"
    key: str | None = "image_id"


USUAL_NAMES = ArrayNames()


@dataclass(frozen=True, eq=False)
class EmbeddingFiles:
    """Rows of three sources that belong together. Arrays may be memory maps; nothing of them was unpickled."""

    image_embed: list[Float[np.ndarray, "rows dim"]]
    text_embed: list[Float[np.ndarray, "rows dim"]]
    """As many pieces, with as many rows each, as ``image_embed``."""
    captions: list[str]
    keys: list[str]
    bad: dict[int, str]
    """Why a row has no caption or no key; the caption is then empty, the key ``row 7``."""
    conditions: bool = False
    """Whether ``text_embed`` holds conditions that are no text embeddings."""

    @classmethod
    def of(
        cls,
        image_embed: list[np.ndarray],
        text_embed: list[np.ndarray],
        captions: Column,
        keys: Column,
        conditions: bool = False,
    ) -> EmbeddingFiles:
        """ValueError where the rows do not belong together, or the embeddings are of no one CLIP space."""
        second = "conditions" if conditions else "text embeddings"
        for image, text in zip(image_embed, text_embed, strict=True):
            for name, array in (("image embeddings", image), (second, text)):
                if array.ndim != 2 or array.dtype.kind != "f":
                    raise ValueError(
                        f"The {name} are {array.dtype} of shape {array.shape}; they must be floats, a row a pair."
                    )
        images, texts = (sum(map(len, pieces)) for pieces in (image_embed, text_embed))
        counts = {"image embeddings": images, second: texts}
        counts |= {"captions": len(captions.strings), "keys": len(keys.strings)}
        if len(set(counts.values())) > 1:
            counted = ", ".join(f"{n} {name}" for name, n in counts.items())
            raise ValueError(" ".join([f"The rows do not belong together: {counted}.", captions.remark, keys.remark]).strip())
        if not images:
            raise ValueError("The files hold no pair.")
        for image, text in [] if conditions else zip(image_embed, text_embed, strict=True):
            if image.shape != text.shape or image.shape[1] != image_embed[0].shape[1]:
                other = text.shape if image.shape != text.shape else image_embed[0].shape
                raise ValueError(
                    f"Image embeddings of shape {image.shape} and {'text' if other is text.shape else 'image'} embeddings of "
                    f"shape {other} are not of one CLIP space: all need the same width, and pairs the same rows."
                )
        named = [f"row {row}" if row in keys.bad else key for row, key in enumerate(keys.strings)]
        return cls(image_embed, text_embed, captions.strings, named, keys.bad | captions.bad, conditions)

    def __len__(self) -> int:
        return len(self.captions)

    @classmethod
    def from_files(
        cls, image_embeds: str, text_embeds: str, captions: str, keys: str | None, names: ArrayNames
    ) -> EmbeddingFiles:
        """A file of image embeddings, one of text embeddings, and captions and keys in any of the formats of `load_column`."""
        images, texts = embeddings(image_embeds, names.image_embed), embeddings(text_embeds, names.text_embed)
        named = (
            column(range(len(images) if images.ndim else 1), KEY, "rows")
            if keys is None
            else load_column(keys, KEY, names.key or "image_id")
        )
        return cls.of([images], [texts], load_column(captions, CAPTION, names.caption), named)

    @classmethod
    def from_conditions(
        cls, image_embeds: str, conditions: str, captions: str | None, keys: str | None, names: ArrayNames
    ) -> EmbeddingFiles:
        """A file of image embeddings, and one of vectors of any width. Without captions each pair is called by its key."""
        images, vectors = embeddings(image_embeds, names.image_embed), embeddings(conditions, names.text_embed)
        numbered = column(range(len(images) if images.ndim else 1), KEY, "rows")
        named = numbered if keys is None else load_column(keys, KEY, names.key or "image_id")
        called = named if captions is None else load_column(captions, CAPTION, names.caption)
        return cls.of([images], [vectors], called, named, conditions=True)

    @classmethod
    def from_arrays(cls, path: str, names: ArrayNames) -> EmbeddingFiles:
        """One npz or Parquet file of everything. Where ``names.key`` is null the rows are numbered."""
        arrays = arrays_in(path)
        if "" in arrays:
            raise ValueError(
                f"{path} is one array, not an npz of several. Give npy files as --image-embeds and --text-embeds."
            )
        wanted = [name for name in (names.image_embed, names.text_embed, names.caption, names.key) if name is not None]
        if absent := [name for name in wanted if name not in arrays]:
            raise ValueError(
                f"{path} has no array {absent[0]!r}; it has {', '.join(arrays)}. Say with --names.NAME what they are "
                "called; --names.key null numbers the rows."
            )
        images, texts = (numbers(arrays[name](), f"{path}, {name!r},") for name in (names.image_embed, names.text_embed))
        captions = of_array(arrays[names.caption](), CAPTION, f"{path}, {names.caption!r},")
        keys = (
            column(range(len(captions.strings)), KEY, path)
            if names.key is None
            else of_array(arrays[names.key](), KEY, f"{path}, {names.key!r},")
        )
        return cls.of([images], [texts], captions, keys)

    @classmethod
    def from_clip_retrieval(cls, folder: str, names: ArrayNames) -> EmbeddingFiles:
        """The folder that `clip-retrieval inference` writes: img_emb/, text_emb/ and metadata/, numbered alike."""
        captions, keys = Column(), Column()
        parts = read_parts(Path(folder), names.caption)
        for part in parts:
            captions.extend(part.captions)
            keys.extend(part.keys)
        return cls.of([part.image_embed for part in parts], [part.text_embed for part in parts], captions, keys)


def take(pieces: list[Float[np.ndarray, "rows dim"]], rows: Int[np.ndarray, " taken"]) -> Float[np.ndarray, "taken dim"]:
    """The given rows of all pieces, numbered end to end, as exact as the most exact piece."""
    starts = np.cumsum([0, *map(len, pieces)])
    piece = np.searchsorted(starts, rows, side="right") - 1
    out = np.empty((len(rows), pieces[0].shape[1]), dtype=np.result_type(*(one.dtype for one in pieces)))
    for number in np.unique(piece):
        out[piece == number] = pieces[number][rows[piece == number] - starts[number]]
    return out
