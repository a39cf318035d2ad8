"""The reader of a set of shards: it maps records into memory and gathers batches without a loop over pairs."""

from __future__ import annotations

import io
import json
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float16, Int, Int16, Int32, Int64
from torch import Tensor

from eclipse_pl.data.chunk import CAPTIONS_MEMBER, STORED, Chunk, member_name
from eclipse_pl.data.manifest import SPACE_NAME, Check, RecordEntry
from eclipse_pl.data.remote_folder import is_url
from eclipse_pl.data.remote_shards import Downloads, RemoteShards
from eclipse_pl.data.shard_files import LocalShards, RecordMemory, ShardFiles, places_of
from eclipse_pl.data.states import STATES, from_int8
from eclipse_pl.embedding import ClipSpace, EmbeddingBatch, TextCondition


@dataclass(frozen=True, eq=False)
class MappedRecord:
    """Views on the stored arrays of one record, by their name. image_embed has one row for each stored image.

    ``token_starts[i]`` is the first token of pair i.
    """

    arrays: dict[str, np.ndarray]
    token_starts: np.ndarray
    memory: RecordMemory

    def image_rows(self, pairs: np.ndarray) -> np.ndarray:
        """Their rows of image_embed."""
        return self.arrays["image_rows"][pairs] if "image_rows" in self.arrays else pairs

    def copy_states(self, out: np.ndarray, places: np.ndarray, tokens: np.ndarray) -> None:
        """Write the states of the record's ``tokens`` to the rows ``places`` of ``out``."""
        if "text_states" in self.arrays:
            _copy(out, places, self.arrays["text_states"], tokens)
        elif "text_states_int8" in self.arrays and len(places):
            stored, scale = self.arrays["text_states_int8"][tokens], self.arrays["text_states_scale"][tokens]
            first, last = int(places[0]), int(places[-1]) + 1
            if last - first == len(places):
                from_int8(stored, scale, out[first:last])
            else:
                out[places] = from_int8(stored, scale)


@dataclass(frozen=True, eq=False)
class CaptionIds:
    """Captions as the ids of their real tokens, one caption after another."""

    ids: Int32[np.ndarray, " tokens"]
    lengths: Int64[np.ndarray, " batch"]


class ShardSet:
    """A folder of shards, open for reading. It is cheap to create and to pickle, because files are mapped when first read.

    The number of a record is its place in the manifest.

    Args:
        folder: Folder of the set, or its URL (see `remote_folder`).
        check: "size" checks existence and size of every shard. "record" also checks each record's checksum when a process
            first reads it. "sha256" reads every byte of the set at once. The records of a URL are checked when they arrive.
        downloads: Cache and connections of a URL.

    Raises:
        ValueError: A check failed. The message names the shard, the record and the command that repairs it.
    """

    def __init__(self, folder: str | Path, check: Check = "size", downloads: Downloads | None = None) -> None:
        self.check = check
        self.folder: Path | str = str(folder) if is_url(folder) else Path(folder)
        self._files: ShardFiles
        if isinstance(self.folder, str):
            self._files = RemoteShards(self.folder, check, downloads or Downloads())
        else:
            self._files = LocalShards(self.folder, check)
        self.manifest = self._files.manifest
        self.states = self.manifest.states
        self.space = self._files.space
        if self.space.identity != self.manifest.space:
            raise ValueError(
                f"{self._files.place(SPACE_NAME)} describes another CLIP space than the manifest in its folder: "
                f"{self.space.identity} against {self.manifest.space}. Repair the set with `{self.manifest.made_by}`."
            )
        self._places, self.shard_numbers = places_of(self.manifest)
        self.entries: list[RecordEntry] = [record for _, record in self._places]
        self.record_pairs = np.array([record.pairs for record in self.entries], dtype=np.int64)
        self.record_starts = np.concatenate([[0], np.cumsum(self.record_pairs)]).astype(np.int64)
        """Number of each record's first pair in the set, and one last entry: the number of pairs."""
        self._records: OrderedDict[int, MappedRecord] = OrderedDict()
        self._checked: set[int] = set()
        self._require_readable()

    def __len__(self) -> int:
        """Pairs in the set."""
        return int(self.record_starts[-1])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_records": OrderedDict(), "_checked": set()}

    def records(self, split: str) -> Int[np.ndarray, "records"]:
        """Numbers of the records of a split; empty if the set has none."""
        return np.array([number for number, entry in enumerate(self.entries) if entry.split == split], dtype=np.int64)

    def read_ahead(self, records: Iterable[int | np.integer]) -> AbstractContextManager[Any]:
        """While the block lasts, records of a URL are downloaded in this order, before their use. It may be endless."""
        return self._files.read_ahead(self._places[int(record)] for record in records)

    def prepare(self, records: Iterable[int | np.integer]) -> None:
        """Make records of a URL ready for the other processes of this node. Local ones are."""
        if isinstance(self._files, LocalShards):
            return
        for record in map(int, records):
            if record in self._records:
                self._files.passed(self._places[record])
            self._record(record)

    def lengths(self, record: int | np.integer) -> Int16[np.ndarray, " pairs"]:
        """Number of real tokens of each caption of a record."""
        return self._record(int(record)).arrays["lengths"]

    def groups(self, record: int | np.integer) -> Int64[np.ndarray, " pairs"]:
        """Number of the image of each pair of a record."""
        return self._record(int(record)).arrays["group"]

    def read_chunk(self, record: int | np.integer, with_states: bool = True) -> Chunk:
        """All pairs of a record. The arrays are read-only; most are views on the mapped file.

        Without ``with_states`` text_states is None. Only int8 states take time to read.
        """
        record = int(record)
        parts: dict[str, Any] = {"text_states": None, **self._record(record).arrays, **self._texts(record)}
        states, scale = parts.pop("text_states_int8", None), parts.pop("text_states_scale", None)
        if not with_states:
            parts["text_states"] = None
        elif states is not None:
            parts["text_states"] = from_int8(states.copy(), scale.copy())
            parts["text_states"].flags.writeable = False
        if "image_rows" in parts:
            parts["image_embed"] = parts["image_embed"][parts["image_rows"]]
            parts["image_embed"].flags.writeable = False
        return Chunk(**parts)

    def gather(
        self,
        record_ids: Int[np.ndarray, " batch"],
        rows: Int[np.ndarray, " batch"],
        with_captions: bool = False,
        with_states: bool = True,
        memory: Float16[np.ndarray, " numbers"] | None = None,
    ) -> EmbeddingBatch:
        """The pairs at ``rows`` of the records ``record_ids``, in that order, as float16 tensors.

        Each record and array takes one vectorised copy. It is fastest if the pairs of a record are neighbours.
        ``with_captions`` adds captions, keys, subsets and negative_embed. Without ``with_states`` the token states are not
        read, and lengths are 0. If ``memory`` is given and large enough, image_embed, text_embed and text_states are written
        into it, one after another (see `in_memory`). Otherwise new memory is used.

        Raises:
            ValueError: The set has no token states, but token ids (`gather_ids`).
        """
        if with_states and self.states == "tokens":
            raise ValueError(
                f"{self.folder} holds token ids instead of token states. Read it through a data module with an encoder: "
                f"EmbeddingDataModule({str(self.folder)!r}, encoder=...)."
            )
        parts = self._parts(record_ids, rows)
        count, dim = len(rows), self.space.dim
        lengths = self._lengths_of(parts, rows) if with_states else np.zeros(count, dtype=np.int64)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        negative = member_name("negative_embed")
        with_negatives = with_captions and any(negative in self.entries[record].members for record, _ in parts)
        needed = numbers_of(count, int(starts[-1]), self.space)
        if memory is None or len(memory) < needed:
            memory = np.empty(needed, dtype=np.float16)
        image_embed, text_embed, text_states = in_memory(memory, count, int(starts[-1]), self.space)
        negative_embed = np.full((count, dim), np.nan, dtype=np.float16) if with_negatives else None
        group = np.empty(count, dtype=np.int64)
        for record, places in parts:
            mapped = self._record(record)
            taken = rows[places]
            group[places] = mapped.arrays["group"][taken]
            _copy(image_embed, places, mapped.arrays["image_embed"], mapped.image_rows(taken))
            _copy(text_embed, places, mapped.arrays["text_embed"], taken)
            if negative_embed is not None and "negative_embed" in mapped.arrays:
                _copy(negative_embed, places, mapped.arrays["negative_embed"], taken)
            tokens = lengths[places]
            source = _token_rows(mapped.token_starts[taken], tokens)
            mapped.copy_states(text_states, _token_rows(starts[places], tokens), source)
        texts = self._gather_texts(parts, rows) if with_captions else {}
        return EmbeddingBatch(
            text=TextCondition(torch.from_numpy(text_embed), torch.from_numpy(text_states), torch.from_numpy(lengths)),
            image_embed=torch.from_numpy(image_embed),
            index=torch.from_numpy(self.record_starts[record_ids] + rows),
            group=torch.from_numpy(group),
            negative_embed=None if negative_embed is None else torch.from_numpy(negative_embed),
            captions=texts.get("captions"),
            keys=texts.get("keys"),
            subsets=texts.get("subsets"),
        )

    def gather_ids(self, record_ids: Int[np.ndarray, " batch"], rows: Int[np.ndarray, " batch"]) -> CaptionIds:
        """The captions of these pairs, in a set of token ids."""
        parts = self._parts(record_ids, rows)
        lengths = self._lengths_of(parts, rows)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        ids = np.empty(int(starts[-1]), dtype=np.int32)
        for record, places in parts:
            mapped, tokens = self._record(record), lengths[places]
            source = _token_rows(mapped.token_starts[rows[places]], tokens)
            _copy(ids, _token_rows(starts[places], tokens), mapped.arrays["token_ids"], source)
        return CaptionIds(ids, lengths)

    def _parts(self, record_ids: np.ndarray, rows: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """Each record with the places of its pairs in the batch."""
        if not len(rows) or rows.min() < 0 or (rows >= self.record_pairs[record_ids]).any():
            raise IndexError(f"A row lies outside its record, or none was asked for ({len(rows)} rows).")
        order = np.argsort(record_ids, kind="stable")
        cuts = np.flatnonzero(np.diff(record_ids[order])) + 1
        return [(int(record_ids[places[0]]), places) for places in np.split(order, cuts)]

    def _lengths_of(self, parts: list[tuple[int, np.ndarray]], rows: np.ndarray) -> np.ndarray:
        lengths = np.empty(len(rows), dtype=np.int64)
        for record, places in parts:
            lengths[places] = self.lengths(record)[rows[places]]
        return lengths

    def _require_readable(self) -> None:
        """Raise ValueError for members that this version cannot read, so that their content is not lost silently."""
        known = {CAPTIONS_MEMBER, *map(member_name, STORED)}
        unread = next((name for entry in self.entries for name in entry.members if name not in known), None)
        if unread is not None:
            raise ValueError(
                f"The records of {self.folder} hold {unread}, which is unknown: upgrade eclipse_pl, or make the set again "
                "without it."
            )

    def _require_whole(self, record: int, memory: RecordMemory) -> None:
        entry = self.entries[record]
        if not entry.is_whole(*memory):
            raise ValueError(
                f"The record {entry.key} of the shard {self._place(record)} has other bytes than were written "
                f"(sha256 differs). {self._remedy}"
            )

    @property
    def _remedy(self) -> str:
        return f"Repair it with `{self.manifest.made_by}`."

    def _place(self, record: int) -> str:
        return self._files.place(self._places[record][0].name)

    def _gather_texts(self, parts: list[tuple[int, np.ndarray]], rows: np.ndarray) -> dict[str, list[str]]:
        count = len(rows)
        gathered = {name: np.full(count, "", dtype=object) for name in ("captions", "keys", "subsets")}
        found: set[str] = set()
        for record, places in parts:
            for name, values in self._texts(record).items():
                gathered[name][places] = [values[row] for row in rows[places]]
                found.add(name)
        return {name: gathered[name].tolist() for name in found}

    def _texts(self, record: int) -> dict[str, list[str]]:
        """The strings of a record: captions, keys, and subsets if there are any."""
        try:
            texts = json.loads(bytes(self._member(record, self._record(record).memory, CAPTIONS_MEMBER)))
            texts = {name: texts[name] for name in ("captions", "keys", "subsets") if name != "subsets" or name in texts}
            fits = all(len(values) == self.entries[record].pairs for values in texts.values())
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(record, CAPTIONS_MEMBER, f"is no list of captions ({error})") from error
        if not fits:
            raise self._damaged(record, CAPTIONS_MEMBER, f"does not have {self.entries[record].pairs} entries")
        return texts

    def _record(self, record: int) -> MappedRecord:
        if record in self._records:
            self._records.move_to_end(record)
            return self._records[record]
        memory = self._files.record(self._places[record])
        if self.check == "record" and record not in self._checked:
            self._require_whole(record, memory)
            self._checked.add(record)
        entry = self.entries[record]
        sizes = {"dim": self.space.dim, "width": self.space.text_width}
        sizes |= {"pairs": entry.pairs, "images": entry.images, "tokens": entry.tokens, "subjects": entry.subjects}
        arrays = {
            name: self._array(record, memory, name, tuple(sizes[of] if isinstance(of, str) else of for of in member.shape))
            for name, member in STORED.items()
            if not member.optional or name in STATES[self.states] or member_name(name) in entry.members
        }
        lengths, image_rows = arrays["lengths"], arrays.get("image_rows")
        if lengths.min() < 0 or lengths.sum() != entry.tokens:
            raise self._damaged(record, "lengths.npy", f"does not add up to the {entry.tokens} tokens of the record")
        if "subject_counts" in arrays and arrays["subject_counts"].sum() != entry.subjects:
            raise self._damaged(record, "subject_counts.npy", f"does not add up to the {entry.subjects} of the record")
        if image_rows is None and entry.images != entry.pairs:
            raise self._damaged(record, "image_rows.npy", "is missing from the manifest")
        if image_rows is not None and not 0 <= image_rows.min() <= image_rows.max() < entry.images:
            raise self._damaged(record, "image_rows.npy", f"names an image beyond the {entry.images} of the record")
        starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        self._records[record] = MappedRecord(arrays, starts, memory)
        if len(self._records) > self._files.open_records:
            self._records.popitem(last=False)
        return self._records[record]

    def _array(self, record: int, memory: RecordMemory, field: str, shape: tuple[int, ...]) -> np.ndarray:
        """A view on one member, after a check of its header against the manifest. Nothing is unpickled."""
        name, dtype = member_name(field), STORED[field].dtype
        content = self._member(record, memory, name)
        header = io.BytesIO(content[:1024])
        try:
            if np.lib.format.read_magic(header) != (1, 0):
                raise ValueError("not version 1.0 of the npy format")
            found = np.lib.format.read_array_header_1_0(header)
        except ValueError as error:
            raise self._damaged(record, name, f"is not an array ({error})") from error
        if found != (shape, False, dtype):
            raise self._damaged(record, name, f"holds {found[2]} of shape {found[0]} instead of {dtype} of shape {shape}")
        if len(content) != header.tell() + int(np.prod(shape)) * dtype.itemsize:
            raise self._damaged(record, name, f"has {len(content)} bytes, which does not fit its shape {shape}")
        return np.frombuffer(content, dtype, offset=header.tell()).reshape(shape)

    def _member(self, record: int, memory: RecordMemory, name: str) -> memoryview:
        if name not in self.entries[record].members:
            raise self._damaged(record, name, "is missing from the manifest")
        offset, size = self.entries[record].members[name]
        start, end = offset - memory.first, offset - memory.first + size
        if not 0 <= start <= end <= len(memory.bytes):
            end_of_shard = memory.first + len(memory.bytes)
            raise self._damaged(
                record, name, f"lies outside the shard, at bytes {offset} to {offset + size} of {end_of_shard}"
            )
        return memoryview(memory.bytes)[start:end]

    def _damaged(self, record: int, member: str, what: str) -> ValueError:
        key = self.entries[record].key
        return ValueError(f"The member {key}.{member} of the shard {self._place(record)} {what}. {self._remedy}")


Numbers = TypeVar("Numbers", np.ndarray, Tensor)


def numbers_of(pairs: int, tokens: int, space: ClipSpace) -> int:
    """Number of float16 values in a batch."""
    return 2 * pairs * space.dim + tokens * space.text_width


def in_memory(memory: Numbers, pairs: int, tokens: int, space: ClipSpace) -> tuple[Numbers, Numbers, Numbers]:
    """image_embed, text_embed and text_states as views on flat memory, one after another."""
    ends = (pairs * space.dim, 2 * pairs * space.dim, numbers_of(pairs, tokens, space))
    return (
        memory[: ends[0]].reshape(pairs, space.dim),
        memory[ends[0] : ends[1]].reshape(pairs, space.dim),
        memory[ends[1] : ends[2]].reshape(tokens, space.text_width),
    )


def _token_rows(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """``start, start + 1, ... `` for each of the captions, one after another: 'ragged arange'."""
    ends = np.cumsum(lengths)
    return np.arange(int(lengths.sum())) + np.repeat(starts - (ends - lengths), lengths)


def _copy(out: np.ndarray, places: np.ndarray, source: np.ndarray, rows: np.ndarray) -> None:
    """``out[places] = source[rows]``, without a second copy if the (ascending) places are neighbours."""
    if not len(places):
        return
    first, last = int(places[0]), int(places[-1]) + 1
    if last - first == len(places):
        np.take(source, rows, axis=0, out=out[first:last], mode="clip")  # "clip" writes to out directly, "raise" does not
    else:
        out[places] = source[rows]
