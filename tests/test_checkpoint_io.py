"""A checkpoint is whole or not there."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path

import pytest
import torch

from eclipse_pl.callbacks.checkpoints import AtomicCheckpointIO


def test_what_is_being_written_never_takes_the_place_of_what_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)
    whole = path.read_bytes()

    def save_half(content, file, *more, **options):
        with open(file, "wb") if isinstance(file, (str, Path)) else contextlib.nullcontext(file) as opened:
            opened.write(b"half")
            opened.flush()
        assert path.read_bytes() == whole, "as a kill would leave it"
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", save_half)
    with pytest.raises(OSError, match="No space left"):
        AtomicCheckpointIO().save_checkpoint({"step": 2}, path)
    assert path.read_bytes() == whole
    assert [each.name for each in tmp_path.iterdir()] == ["last.ckpt"]
