"""Recognise the kind of a file by its first bytes, because its name can be wrong."""

from __future__ import annotations

import zipfile
from pathlib import Path

SIGNATURES = {
    b"\x93NUMPY": "npy",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"PAR1": "Parquet",
    b"PARE": "encrypted Parquet",
    b"ARROW1": "Arrow IPC (Feather)",
    b"ORC": "ORC",
    b"\x89HDF\r\n\x1a\n": "HDF5",
    b"CDF\x01": "NetCDF",
    b"CDF\x02": "NetCDF",
    b"MATLAB 5.0 MAT-file": "MATLAB",
    b"MATLAB 7.3 MAT-file": "HDF5",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
    b"SQLite format 3\x00": "SQLite",
    b"\xd0\xcf\x11\xe0": "Excel (xls)",
    b"%PDF": "PDF",
}
PACKED = ("gzip", "bzip2", "xz", "Zstandard", "7-Zip")
"""Kinds that contain another file."""


def kind_of_bytes(head: bytes) -> str | None:
    """Return the kind of a file by its first 512 bytes, or None for text and unknown kinds."""
    for signature, kind in SIGNATURES.items():
        if head.startswith(signature) and not (signature.decode("latin-1").isprintable() and _is_text(head)):
            return kind
    if len(head) > 2 and head[0] == 0x80 and 2 <= head[1] <= 5:
        return "pickle"
    if len(head) > 9 and head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") < 1 << 32:
        return "safetensors"
    return "tar" if head[257:262] == b"ustar" and b"\0" in head else None


def kind_of(path: str | Path) -> str | None:
    """Return the kind of a file on disk. For a zip archive, its content decides (npz, PyTorch, Excel)."""
    with Path(path).open("rb") as file:
        kind = kind_of_bytes(file.read(512))
    if kind != "zip":
        return kind
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return "damaged zip"
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return "PyTorch"
    if "[Content_Types].xml" in names:
        return "Excel (xlsx)"
    return "npz" if names and all(name.endswith(".npy") for name in names) else "zip"


def _is_text(head: bytes) -> bool:
    """Return whether a text file can begin like this. The last character may be incomplete."""
    return b"\0" not in head and head.decode("utf-8", "ignore").encode() in (head[: len(head) - cut] for cut in range(4))
