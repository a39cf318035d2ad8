"""Columns of Parquet files, as arrays or as Python's values. Nothing is unpickled."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

Columns = dict[str, Callable[[], "np.ndarray | list[Any]"]]
"""The columns of a file by name, each with its reader."""


def parquet(path: str) -> Columns:
    """Columns of a Parquet file: lists of numbers as one array, anything else as Python's values. Strings come as bytes.

    Raises:
        ValueError: pyarrow is missing, or the file is damaged.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ValueError(f"{path} is Parquet, which pyarrow reads: pip install 'eclipse_pl[parquet]'.") from error
    try:
        names = ParquetFile(path).schema_arrow.names
    except (ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read as Parquet ({first_line(error)}). Write it or copy it again.") from error
    return {name: partial(_column, path, name) for name in names}


def _column(path: str, name: str) -> np.ndarray | list[Any]:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow.parquet import ParquetFile

    try:
        (column,) = ParquetFile(path).read([name], use_threads=False).columns
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"Column {name!r} of {path} cannot be read ({first_line(error)}).") from error
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if _is_list(kind) and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        lengths = pc.unique(pc.list_value_length(column)).to_pylist()
        if len(lengths) == 1 and lengths[0] is not None:
            flat = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
            return np.concatenate(flat).reshape(len(column), lengths[0])
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = column.cast(pa.large_binary())  # Arrow does not check that strings are UTF-8; `bytes` of a row are checked
    values: list[Any] = column.to_pylist()
    return values


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its class."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
