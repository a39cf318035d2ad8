"""The reader of a set of shards: it maps records into memory and gathers batches without a loop over pairs."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float16, Int, Int16, Int32, Int64

from eclipse_pl.data.batch_memory import bounds_of, copy_rows, in_memory, numbers_of, token_rows
from eclipse_pl.data.chunk import CAPTIONS_MEMBER, STORED, Chunk, member_name
from eclipse_pl.data.manifest import SPACE_NAME, Check, RecordEntry
from eclipse_pl.data.mapped_record import DamagedMemberError, MappedRecord
from eclipse_pl.data.remote_folder import is_url, without_query
from eclipse_pl.data.remote_shards import Downloads, RemoteShards
from eclipse_pl.data.shard_files import LocalShards, RecordMemory, ShardFiles, places_of
from eclipse_pl.data.states import from_int8
from eclipse_pl.embedding import EmbeddingBatch, TextCondition


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
        self.folder: Path | str = str(folder) if is_url(folder) else Path(folder).expanduser()
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
        self._held: defaultdict[str, set[str]] = defaultdict(set)
        for entry in self.entries:
            self._held[entry.split].update(entry.members)
        self._records: OrderedDict[int, MappedRecord] = OrderedDict()
        self._checked: set[int] = set()
        self._require_readable()

    @property
    def name(self) -> str:
        """The folder for messages."""
        return without_query(self.folder)

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

    def close(self) -> None:
        """Close the records that are open, so that many sets can be read in turn. Reading opens them again."""
        self._records.clear()
        self._files.close()

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
        ``with_captions`` adds captions, keys, subsets and negative_embed. A split that has negative captions also gives
        negative_text_embed. Without ``with_states`` the token states are not read, and lengths are 0. If ``memory`` is given
        and large enough, image_embed, text_embed and text_states are written into it, one after another (see `in_memory`).
        Otherwise new memory is used.

        Raises:
            ValueError: The set has no token states, but token ids (`gather_ids`).
        """
        if with_states and self.states == "tokens":
            raise ValueError(
                f"{self.name} holds token ids instead of token states. Read it through a data module with an encoder: "
                f"EmbeddingDataModule({self.name!r}, encoder=...)."
            )
        parts = self._parts(record_ids, rows)
        count = len(rows)
        lengths = self._lengths_of(parts, rows) if with_states else np.zeros(count, dtype=np.int64)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        negatives = self._negatives(parts[0][0], count, with_captions)
        needed = numbers_of(count, int(starts[-1]), self.space)
        if memory is None or len(memory) < needed:
            memory = np.empty(needed, dtype=np.float16)
        image_embed, text_embed, text_states = in_memory(memory, count, int(starts[-1]), self.space)
        group = np.empty(count, dtype=np.int64)
        for record, places in parts:
            mapped = self._record(record)
            taken = rows[places]
            group[places] = mapped.arrays["group"][taken]
            copy_rows(image_embed, places, mapped.arrays["image_embed"], mapped.image_rows(taken))
            copy_rows(text_embed, places, mapped.arrays["text_embed"], taken)
            for name in negatives.keys() & mapped.arrays.keys():
                copy_rows(negatives[name], places, mapped.arrays[name], taken)
            tokens = lengths[places]
            source = token_rows(mapped.token_starts[taken], tokens)
            mapped.copy_states(text_states, token_rows(starts[places], tokens), source)
        texts = self._gather_texts(parts, rows) if with_captions else {}
        text = (torch.from_numpy(text_embed), torch.from_numpy(text_states), torch.from_numpy(lengths))
        return EmbeddingBatch(
            text=TextCondition(*text, bounds_of(lengths)),
            image_embed=torch.from_numpy(image_embed),
            index=torch.from_numpy(self.record_starts[record_ids] + rows),
            group=torch.from_numpy(group),
            **{name: torch.from_numpy(array) for name, array in negatives.items()},
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
            source = token_rows(mapped.token_starts[rows[places]], tokens)
            copy_rows(ids, token_rows(starts[places], tokens), mapped.arrays["token_ids"], source)
        return CaptionIds(ids, lengths)

    def _negatives(self, record: int, count: int, with_images: bool) -> dict[str, Float16[np.ndarray, "batch dim"]]:
        """NaN for the embeddings of ``count`` negatives: those that any record of this one's split has.

        All ranks then have them or none, so that they can be gathered.
        """
        widths = {"negative_text_embed": self.space.text_dim} | ({"negative_embed": self.space.dim} if with_images else {})
        held = self._held[self.entries[record].split]
        return {
            name: np.full((count, width), np.nan, dtype=np.float16)
            for name, width in widths.items()
            if member_name(name) in held
        }

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
                f"The records of {self.name} hold {unread}, which is unknown: upgrade eclipse_pl, or make the set again "
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
        try:
            return self._record(record).texts()
        except DamagedMemberError as error:
            raise self._damaged(record, error) from error

    def _record(self, record: int) -> MappedRecord:
        if record in self._records:
            self._records.move_to_end(record)
            return self._records[record]
        memory = self._files.record(self._places[record])
        if self.check == "record" and record not in self._checked:
            self._require_whole(record, memory)
            self._checked.add(record)
        try:
            self._records[record] = MappedRecord.read(self.entries[record], memory, self.space, self.states)
        except DamagedMemberError as error:
            raise self._damaged(record, error) from error
        if len(self._records) > self._files.open_records:
            self._records.popitem(last=False)
        return self._records[record]

    def _damaged(self, record: int, error: DamagedMemberError) -> ValueError:
        name = f"{self.entries[record].key}.{error.member}"
        return ValueError(f"The member {name} of the shard {self._place(record)} {error.problem}. {self._remedy}")
