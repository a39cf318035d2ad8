"""Existing pairs of embeddings, as other tools write them: npy files, an npz, or a clip-retrieval folder."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True, eq=False)
class EmbeddingFiles:
    """Rows of three sources that belong together. Arrays may be memory maps; nothing of them was unpickled."""

    image_embed: list[Float[np.ndarray, "rows dim"]]
    text_embed: list[Float[np.ndarray, "rows dim"]]
    """As many pieces, with as many rows each, as ``image_embed``."""
    captions: list[str]
    keys: list[str]

    def __post_init__(self) -> None:
        images, texts = (sum(len(piece) for piece in pieces) for pieces in (self.image_embed, self.text_embed))
        counts = {"image embeddings": images, "text embeddings": texts, "captions": len(self.captions), "keys": len(self.keys)}
        if len(set(counts.values())) > 1:
            raise ValueError(f"The rows do not belong together: {', '.join(f'{n} {name}' for name, n in counts.items())}.")
        if not images:
            raise ValueError("The files hold no pair.")
        for image, text in zip(self.image_embed, self.text_embed, strict=True):
            for name, array in (("image", image), ("text", text)):
                if array.ndim != 2 or array.dtype.kind != "f":
                    raise ValueError(
                        f"The {name} embeddings are {array.dtype} of shape {array.shape}; they must be floats, a row a pair."
                    )
            if image.shape != text.shape:
                raise ValueError(
                    f"Image embeddings of shape {image.shape} and text embeddings of shape {text.shape} are no pairs of one "
                    "CLIP space: both need the same rows and width."
                )

    def __len__(self) -> int:
        return len(self.captions)

    @classmethod
    def from_npy(cls, image_embeds: str, text_embeds: str, captions: str, keys: str | None) -> EmbeddingFiles:
        """Two npy files; captions and keys as text (one a line), as a JSON list, or as an npy array of strings."""
        images, texts = load_npy(image_embeds), load_npy(text_embeds)
        names = [str(row) for row in range(len(images))] if keys is None else load_strings(keys)
        return cls([images], [texts], load_strings(captions), names)

    @classmethod
    def from_npz(cls, path: str, image_embed: str, text_embed: str, caption: str, key: str | None) -> EmbeddingFiles:
        """One npz; the names are those of its arrays. Without ``key`` the rows are numbered."""
        archive = load_array(path)
        if isinstance(archive, np.ndarray):
            raise ValueError(
                f"{path} is one array, not an npz of several. Give npy files as --image-embeds and --text-embeds."
            )
        wanted = [name for name in (image_embed, text_embed, caption, key) if name is not None]
        if absent := [name for name in wanted if name not in archive.files]:
            raise ValueError(
                f"{path} has no array {absent[0]!r}; it has {', '.join(archive.files)}. Say with --names.NAME what they are "
                "called; --names.key null numbers the rows."
            )
        try:
            arrays = {name: archive[name] for name in wanted}
        except ValueError as error:
            raise ValueError(_pickled(path, error)) from error
        keys = np.arange(len(arrays[caption])) if key is None else arrays[key]
        return cls([arrays[image_embed]], [arrays[text_embed]], _strings(arrays[caption]), _strings(keys))

    @classmethod
    def from_clip_retrieval(cls, folder: str) -> EmbeddingFiles:
        """The folder that `clip-retrieval inference` writes: img_emb/, text_emb/ and metadata/, numbered alike."""
        try:
            import pandas
            import pyarrow  # noqa: F401  (what pandas reads parquet with)
        except ImportError as error:
            raise ValueError(
                "Reading clip-retrieval's metadata needs pandas and pyarrow: pip install 'eclipse_pl[parquet]'."
            ) from error
        pieces = {int(re.sub(r"\D", "", path.stem)): path for path in Path(folder).glob("img_emb/img_emb_*.npy")}
        if not pieces:
            raise ValueError(f"There is no {Path(folder) / 'img_emb/img_emb_0.npy'}, so this is no folder of clip-retrieval.")
        images: list[np.ndarray] = []
        texts: list[np.ndarray] = []
        captions: list[str] = []
        keys: list[str] = []
        for number in sorted(pieces):
            metadata = next(
                iter(Path(folder).glob(f"metadata/metadata_{pieces[number].stem.removeprefix('img_emb_')}.parquet")), None
            )
            text = Path(folder) / "text_emb" / pieces[number].name.replace("img_emb", "text_emb")
            if metadata is None:
                raise ValueError(
                    f"{pieces[number]} has no metadata/metadata_*.parquet of its number, so its captions are unknown."
                )
            table = pandas.read_parquet(metadata)
            if "caption" not in table:
                raise ValueError(f"{metadata} has no column 'caption'; it has {', '.join(table.columns)}.")
            images.append(load_npy(str(pieces[number])))
            texts.append(load_npy(str(text)))
            captions += _strings(table["caption"].fillna("").to_numpy())
            start = len(keys)
            keys += (
                _strings(table["image_path"].to_numpy())
                if "image_path" in table
                else map(str, range(start, start + len(table)))
            )
        return cls(images, texts, captions, keys)


def take(pieces: list[Float[np.ndarray, "rows dim"]], rows: Int[np.ndarray, " taken"]) -> Float[np.ndarray, "taken dim"]:
    """The given rows of all pieces, numbered end to end."""
    starts = np.cumsum([0, *map(len, pieces)])
    piece = np.searchsorted(starts, rows, side="right") - 1
    out = np.empty((len(rows), pieces[0].shape[1]), dtype=pieces[0].dtype)
    for number in np.unique(piece):
        out[piece == number] = pieces[number][rows[piece == number] - starts[number]]
    return out


def load_array(path: str) -> np.ndarray | np.lib.npyio.NpzFile:
    """An npy file as a memory map, or an npz. Object arrays are refused: they are pickles."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(f"There is no {path}.") from None
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(_pickled(path, error)) from error


def load_npy(path: str) -> np.ndarray:
    """One array, as a memory map."""
    array = load_array(path)
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path} holds several arrays ({', '.join(array.files)}). Give it as --arrays.")
    return array


def load_strings(path: str) -> list[str]:
    """One string a line, a JSON list of strings (.json), or an npy array of strings (.npy)."""
    if path.endswith(".npy"):
        return _strings(load_npy(path))
    try:
        text = Path(path).read_text(encoding="utf-8")
        if not path.endswith(".json"):
            return text.splitlines()
        strings = json.loads(text)
    except FileNotFoundError:
        raise ValueError(f"There is no {path}.") from None
    except ValueError as error:
        raise ValueError(f"{path} is neither text, one string a line, nor JSON ({error}).") from error
    if not isinstance(strings, list):
        raise ValueError(f"{path} must be a list of strings, got {type(strings).__name__}.")
    return [str(string) for string in strings]


def _strings(array: np.ndarray) -> list[str]:
    return [str(entry) for entry in array.tolist()]


def _pickled(path: str, error: Exception) -> str:
    return f"{path} is no array that can be read without unpickling ({error}). Save plain numbers and plain strings."
