"""Arrays in files of other programs: npy, npz, safetensors and Parquet are read; other kinds are named in the error."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from eclipse_pl.formats.file_kind import PACKED, kind_of
from eclipse_pl.formats.parquet import first_line, parquet

Arrays = dict[str, Callable[[], "np.ndarray | list[Any]"]]
"""The content of a file by name, each with its reader: an array, or the values of a column. A lone array is called ``""``."""
SAFE = "npy, npz, safetensors and Parquet are read"
REMEDIES = {
    "PyTorch": "That is a pickle, which can run code when it is read. Where you trust it: numpy.save('NEW.npy', "
    "torch.load('OLD.pt', weights_only=True).float().numpy()).",
    "pickle": "That can run code when it is read. Where you trust it, load it and numpy.save('NEW.npy', array).",
    "HDF5": "Convert it: numpy.save('NEW.npy', h5py.File('OLD.h5')['NAME'][:]).",
    "NetCDF": "Convert it: numpy.save('NEW.npy', xarray.open_dataset('OLD.nc')['NAME'].values).",
    "MATLAB": "Convert it: numpy.save('NEW.npy', scipy.io.loadmat('OLD.mat')['NAME']).",
    "Arrow IPC (Feather)": "Convert it: pandas.read_feather('OLD').to_parquet('NEW.parquet').",
    "ORC": "Convert it: pandas.read_orc('OLD').to_parquet('NEW.parquet').",
    "damaged zip": "It was cut off or is damaged: write it or copy it again.",
    "text": "Convert it: numpy.save('NEW.npy', numpy.loadtxt('OLD', delimiter=',')).",
    **dict.fromkeys(PACKED, "Unpack it first."),
}


def arrays_in(path: str) -> Arrays:
    """The arrays and columns of a file; nothing is unpickled.

    ValueError where there is no such file, or it is of another format: that is named by the file's first bytes.
    """
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder, not a file of arrays. A folder of clip-retrieval is given as --clip-retrieval.")
    if not Path(path).is_file():
        raise ValueError(f"There is no {path}.")
    kind = kind_of(path)
    readers = {"npy": _npy, "npz": _npz, "safetensors": _safetensors, "Parquet": parquet}
    if kind in readers:
        return readers[kind](path)
    kind = kind or ("text" if _is_text(path) else None)
    what = f"is {kind} by its first bytes" if kind else "is of an unknown format"
    raise ValueError(f"{path} {what}, and only {SAFE}. {REMEDIES.get(kind or '', 'Convert it: numpy.save(NEW.npy, array).')}")


def embeddings(path: str, name: str) -> np.ndarray:
    """The one array of a file, or the one of this name. ValueError where neither is there."""
    arrays = arrays_in(path)
    found = arrays.get("") or arrays.get(name) or (next(iter(arrays.values())) if len(arrays) == 1 else None)
    if found is None:
        raise ValueError(
            f"{path} holds several arrays ({', '.join(arrays)}) and none is called {name!r}. Give it as --arrays, or say with "
            "--names.image_embed and --names.text_embed what they are called."
        )
    return numbers(found(), path)


def numbers(array: np.ndarray | list[Any], place: str) -> np.ndarray:
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{place} holds no embeddings: every row must have a list of numbers, and all lists the same length.")
    return array


def _npy(path: str) -> Arrays:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(_unreadable(path, error)) from error
    return {"": lambda: array}


def _npz(path: str) -> Arrays:
    def read(name: str) -> np.ndarray:
        try:
            array: np.ndarray = archive[name]
        except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(_unreadable(f"Array {name!r} of {path}", error)) from error
        return array

    archive = np.load(path, allow_pickle=False)
    return {name: partial(read, name) for name in archive.files}


def _safetensors(path: str) -> Arrays:
    import torch
    from safetensors import SafetensorError, safe_open

    def read(name: str) -> np.ndarray:
        with safe_open(path, framework="pt") as file:
            tensor = file.get_tensor(name)
        # NumPy knows no bfloat16
        return tensor.float().numpy() if tensor.dtype is torch.bfloat16 else tensor.numpy()

    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read as safetensors ({first_line(error)}). Write it or copy it again.") from error
    return {name: partial(read, name) for name in names}


def _unreadable(place: str, error: Exception) -> str:
    if "object" in str(error).lower():
        return (
            f"{place} holds Python objects, which cannot be read without unpickling ({first_line(error)}). "
            "Save plain numbers and plain strings: numpy.save('NEW.npy', array.astype(str)), or a text file."
        )
    return f"{place} is damaged or was cut off ({first_line(error)}). Write it or copy it again."


def _is_text(path: str) -> bool:
    with Path(path).open("rb") as file:
        head = file.read(512)
    return bool(head) and b"\0" not in head and len(head.decode("utf-8", "ignore").encode()) > len(head) - 4
