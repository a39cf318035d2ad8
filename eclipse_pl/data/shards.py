"""Shards: plain webdataset tars whose records hold a chunk of many pairs each (design.md, section 5).

KEY.image_embed.npy     (n, E)  float16
KEY.text_embed.npy      (n, E)  float16
KEY.text_states.npy     (T, W)  float16   T = sum of lengths; real tokens only, captions end to end
KEY.lengths.npy         (n,)    int16     all 0 in a set without token states, T = 0 then
KEY.captions.json               {"captions": n strings, "keys": n strings, "subsets": n strings (optional)}
KEY.negative_embed.npy  (n, E)  float16   optional; a row of NaN where a pair has no counterpart
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import Float, Integer

from eclipse_pl.data.manifest import SPLITS, RecordEntry, ShardEntry, SkippedPair, disk_error

ARRAY_MEMBERS = {
    "image_embed.npy": np.dtype(np.float16),
    "text_embed.npy": np.dtype(np.float16),
    "text_states.npy": np.dtype(np.float16),
    "lengths.npy": np.dtype(np.int16),
}
NEGATIVE_MEMBER = "negative_embed.npy"
CAPTIONS_MEMBER = "captions.json"


@dataclass(eq=False)
class Chunk:
    """The pairs of one record."""

    image_embed: Float[np.ndarray, "pairs dim"]
    text_embed: Float[np.ndarray, "pairs dim"]
    text_states: Float[np.ndarray, "tokens width"]
    lengths: Integer[np.ndarray, " pairs"]
    captions: list[str]
    keys: list[str]
    subsets: list[str] | None = None
    negative_embed: Float[np.ndarray, "pairs dim"] | None = None
    """Image embedding of each caption's counterpart; a row of NaN where there is none."""

    def __len__(self) -> int:
        return len(self.image_embed)

    def problem(self) -> str | None:
        """What keeps these pairs from being a record, in words."""
        texts = {"captions": self.captions, "keys": self.keys, "subsets": self.subsets}
        for name, values in texts.items():
            if values is not None and len(values) != len(self):
                return f"{name} has {len(values)} entries for {len(self)} pairs"
        if not len(self):
            return "it holds no pair"
        if self.lengths.min() < 0 or self.lengths.sum() != len(self.text_states):
            return f"lengths add up to {self.lengths.sum()}, but text_states has {len(self.text_states)} rows"
        for name in ("image_embed", "text_embed", "text_states"):
            if not np.isfinite(getattr(self, name)).all():
                return f"{name} holds NaN, infinity or a value too large for float16; leave such pairs out"
        return None


class ShardWriter:
    """Writes one shard under a temporary name; ``close`` renames it and returns its row of the manifest.

    As a context manager it removes the temporary file when the block raises. The bytes depend on nothing but the chunks
    and the name of the shard, so that a run that was killed and started again ends with the same bytes.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._stem = self.path.name.removesuffix(".tar")
        if not self.path.name.endswith(".tar") or "." in self._stem or not self._stem:
            raise ValueError(
                f"A shard is called NAME.tar, with no other dot in it (webdataset's rule), got {self.path.name!r}"
            )
        self._partial = self.path.with_name(self.path.name + ".partial")
        self._hash = hashlib.sha256()
        self._position = 0
        self._records: list[RecordEntry] = []
        try:
            self._file: io.BufferedWriter | None = open(self._partial, "wb")  # noqa: SIM115 (closed by close or abort)
        except OSError as error:
            raise disk_error(error, self.path.parent) from error

    def write(self, chunk: Chunk, split: str) -> None:
        """Append one record. Arrays are narrowed to float16 and int16; ValueError where they do not fit together."""
        if split not in SPLITS:
            raise ValueError(f"The split {split!r} is unknown; a record belongs to one of {', '.join(SPLITS)}.")
        key = f"{self._stem}_{len(self._records):05d}"
        with np.errstate(over="ignore"):
            arrays = {name.removesuffix(".npy"): dtype for name, dtype in ARRAY_MEMBERS.items()}
            narrow = replace(chunk, **{name: getattr(chunk, name).astype(dtype) for name, dtype in arrays.items()})
            if chunk.negative_embed is not None:
                narrow.negative_embed = chunk.negative_embed.astype(np.float16)
        if problem := narrow.problem():
            raise ValueError(f"Record {key} of {self.path} cannot be written: {problem}.")
        members = {f"{name}.npy": _npy_bytes(getattr(narrow, name)) for name in arrays}
        if narrow.negative_embed is not None:
            members[NEGATIVE_MEMBER] = _npy_bytes(narrow.negative_embed)
        texts = {"captions": chunk.captions, "keys": chunk.keys, "subsets": chunk.subsets}
        if chunk.subsets is None:
            del texts["subsets"]
        members[CAPTIONS_MEMBER] = json.dumps(texts, ensure_ascii=False).encode()
        places = {name: (self._append(f"{key}.{name}", content), len(content)) for name, content in members.items()}
        self._records.append(RecordEntry(key, split, len(narrow), len(narrow.text_states), places))

    def close(self, cut: int = 0, skipped: Sequence[SkippedPair] = ()) -> ShardEntry:
        """Finish the tar, give it its name, and return its manifest row.

        ``cut``: captions that were longer than the context. ``skipped``: pairs of the source that were left out.
        """
        assert self._file is not None, "the writer is closed already"
        self._put(bytes(2 * tarfile.BLOCKSIZE))
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._partial, self.path)
        except OSError as error:
            self.abort()
            raise disk_error(error, self.path.parent) from error
        self._file = None
        return ShardEntry(
            name=self.path.name,
            pairs=sum(record.pairs for record in self._records),
            tokens=sum(record.tokens for record in self._records),
            bytes=self._position,
            sha256=self._hash.hexdigest(),
            cut=cut,
            skipped=list(skipped),
            records=self._records,
        )

    def abort(self) -> None:
        """Remove what was written. Does nothing after ``close``."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk makes the last flush fail as well, and the file goes anyway
                self._file.close()
            self._file = None
            self._partial.unlink(missing_ok=True)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.abort()

    def _append(self, name: str, content: bytes) -> int:
        """Write one tar member; return the offset of its first byte."""
        header = tarfile.TarInfo(name)  # mtime, owner and group stay 0, the mode 0644
        header.size = len(content)
        self._put(header.tobuf(tarfile.GNU_FORMAT))
        offset = self._position
        self._put(content)
        self._put(bytes(-len(content) % tarfile.BLOCKSIZE))
        return offset

    def _put(self, content: bytes) -> None:
        assert self._file is not None, "the writer is closed"
        try:
            self._file.write(content)
        except OSError as error:
            self.abort()
            raise disk_error(error, self.path.parent) from error
        self._hash.update(content)
        self._position += len(content)


def _npy_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()
