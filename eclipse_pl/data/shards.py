"""The writer of shards: plain webdataset tars, in which each record holds a chunk of many pairs (see `chunk`)."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np

from eclipse_pl.data.chunk import CAPTIONS_MEMBER, MEMBERS, Chunk, image_numbers, member_name
from eclipse_pl.data.manifest import SPLITS, RecordEntry, ShardEntry, SkippedPair, SourceEntry
from eclipse_pl.data.states import States, to_int8
from eclipse_pl.files import disk_error, partial_path


class ShardWriter:
    """Writes one shard under a temporary name; ``close`` renames it and returns its row of the manifest.

    As a context manager it removes the temporary file when the block raises. The bytes depend only on the chunks and the
    name of the shard. A run that was killed and started again gives the same bytes.

    Args:
        path: The shard, ``FOLDER/NAME.tar``.
        states: How the captions of its chunks are stored. Chunks hold token ids for "tokens", and token states otherwise.
        before: Called with the row of the manifest before the shard gets its name, and replaces a file of that name.
    """

    def __init__(
        self, path: str | Path, states: States = "float16", before: Callable[[ShardEntry], None] | None = None
    ) -> None:
        self.path = Path(path)
        self.states = states
        self._before = before
        self._stem = self.path.name.removesuffix(".tar")
        if not self.path.name.endswith(".tar") or "." in self._stem or not self._stem:
            raise ValueError(
                f"A shard is called NAME.tar, with no other dot in it (webdataset's rule), not {self.path.name!r}"
            )
        self._partial = partial_path(self.path)
        self._hash = hashlib.sha256()
        self._position = 0
        self._records: list[RecordEntry] = []
        try:
            self._file: io.BufferedWriter | None = open(self._partial, "wb")  # noqa: SIM115 (closed by close or abort)
        except OSError as error:
            raise disk_error(error, self.path.parent) from error

    def write(self, chunk: Chunk, split: str) -> None:
        """Append one record. Arrays are converted to the stored types. ValueError if they do not fit together."""
        if split not in SPLITS:
            raise ValueError(f"The split {split!r} is unknown; a record belongs to one of {', '.join(SPLITS)}.")
        key = f"{self._stem}_{len(self._records):05d}"
        given = {name: array for name in MEMBERS if (array := getattr(chunk, name)) is not None}
        with np.errstate(over="ignore"):
            narrow = replace(chunk, **{name: array.astype(MEMBERS[name].dtype) for name, array in given.items()})
        if problem := narrow.problem() or self._other_states(narrow):
            raise ValueError(f"Record {key} of {self.path} cannot be written: {problem}.")
        if narrow.group is None:
            narrow.group = image_numbers(narrow.image_embed)
        arrays = {name: array for name in MEMBERS if (array := getattr(narrow, name)) is not None}
        if narrow.image_rows is not None:
            arrays["image_embed"] = narrow.image_embed[np.unique(narrow.image_rows, return_index=True)[1]]
        if self.states == "int8":
            arrays["text_states_int8"], arrays["text_states_scale"] = to_int8(arrays.pop("text_states"))
        members = {member_name(name): _npy_bytes(array) for name, array in arrays.items()}
        texts = {"captions": chunk.captions, "keys": chunk.keys}
        if chunk.subsets is not None:
            texts["subsets"] = chunk.subsets
        members[CAPTIONS_MEMBER] = json.dumps(texts, ensure_ascii=False).encode()
        places = {name: (self._append(f"{key}.{name}", content), len(content)) for name, content in members.items()}
        self._records.append(
            RecordEntry(
                key=key,
                split=split,
                pairs=len(narrow),
                images=narrow.images,
                tokens=narrow.tokens,
                subjects=narrow.subjects,
                sha256=hashlib.sha256(b"".join(members.values())).hexdigest(),
                members=places,
            )
        )

    def _other_states(self, chunk: Chunk) -> str | None:
        held = "states" if chunk.token_ids is None else "ids"
        needed = "ids" if self.states == "tokens" else "states"
        return None if held == needed else f"it holds token {held}, and a shard of {self.states} stores token {needed}"

    def close(
        self, cut: int = 0, skipped: Sequence[SkippedPair] = (), others: int = 0, source: SourceEntry | None = None
    ) -> ShardEntry:
        """Finish the tar, give it its name, and return its manifest row.

        Args:
            cut: Number of captions that were longer than the context.
            skipped: Pairs of the source that were left out.
            others: Number of entries of the source that are not samples.
            source: The tar that the shard was made from.
        """
        assert self._file is not None, "the writer is closed already"
        self._put(bytes(2 * tarfile.BLOCKSIZE))
        entry = ShardEntry(
            name=self.path.name,
            pairs=sum(record.pairs for record in self._records),
            tokens=sum(record.tokens for record in self._records),
            bytes=self._position,
            sha256=self._hash.hexdigest(),
            cut=cut,
            skipped=list(skipped),
            others=others,
            records=self._records,
            source=source,
        )
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            if self._before is not None:
                self._before(entry)
            os.replace(self._partial, self.path)
        except OSError as error:
            self.abort()
            raise disk_error(error, self.path.parent) from error
        self._file = None
        return entry

    def abort(self) -> None:
        """Remove what was written. Does nothing after ``close``."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # on a full disk the last flush fails as well; the file is removed in any case
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
