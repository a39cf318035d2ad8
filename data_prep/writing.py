"""Files that are whole or not there, in folders that need not be there yet."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from eclipse_pl.files import write_atomically


def write_text(path: Path, content: str) -> None:
    write_bytes(path, content.encode())


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    from safetensors.torch import save

    write_bytes(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata))


def write_bytes(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
