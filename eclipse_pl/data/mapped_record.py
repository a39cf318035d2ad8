"""MappedRecord: the arrays of one record as views on its bytes, checked against the manifest."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass

import numpy as np

from eclipse_pl.data.batch_memory import copy_rows
from eclipse_pl.data.chunk import CAPTIONS_MEMBER, STORED, member_name
from eclipse_pl.data.manifest import RecordEntry
from eclipse_pl.data.shard_files import RecordMemory
from eclipse_pl.data.states import STATES, States, from_int8
from eclipse_pl.embedding import ClipSpace


class DamagedMemberError(ValueError):
    """A member of a record, and its problem. `ShardSet` adds the place and the remedy."""

    def __init__(self, member: str, problem: str) -> None:
        super().__init__(member, problem)
        self.member, self.problem = member, problem


@dataclass(frozen=True, eq=False)
class MappedRecord:
    """Views on the stored arrays of one record, by their name. image_embed has one row for each stored image.

    ``token_starts[i]`` is the first token of pair i.
    """

    entry: RecordEntry
    memory: RecordMemory
    arrays: dict[str, np.ndarray]
    token_starts: np.ndarray

    @classmethod
    def read(cls, entry: RecordEntry, memory: RecordMemory, space: ClipSpace, states: States) -> MappedRecord:
        """Check the arrays of a record against its manifest entry. Nothing is copied, and nothing is unpickled.

        Raises:
            DamagedMemberError: A member is missing, or holds something else than the entry says.
        """
        sizes = {"dim": space.dim, "text_dim": space.text_dim, "width": space.text_width}
        sizes |= {"pairs": entry.pairs, "images": entry.images, "tokens": entry.tokens, "subjects": entry.subjects}
        arrays = {
            name: _array(entry, memory, name, tuple(sizes[of] if isinstance(of, str) else of for of in member.shape))
            for name, member in STORED.items()
            if not member.optional or name in STATES[states] or member_name(name) in entry.members
        }
        lengths, image_rows = arrays["lengths"], arrays.get("image_rows")
        if lengths.min() < 0 or lengths.sum() != entry.tokens:
            raise DamagedMemberError("lengths.npy", f"does not add up to the {entry.tokens} tokens of the record")
        if "subject_counts" in arrays and arrays["subject_counts"].sum() != entry.subjects:
            raise DamagedMemberError("subject_counts.npy", f"does not add up to the {entry.subjects} of the record")
        if image_rows is None and entry.images != entry.pairs:
            raise DamagedMemberError("image_rows.npy", "is missing from the manifest")
        if image_rows is not None and not 0 <= image_rows.min() <= image_rows.max() < entry.images:
            raise DamagedMemberError("image_rows.npy", f"names an image beyond the {entry.images} of the record")
        return cls(entry, memory, arrays, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))

    def texts(self) -> dict[str, list[str]]:
        """The strings: captions, keys, and subsets if there are any.

        Raises:
            DamagedMemberError: They are not as many as the pairs, or are no strings.
        """
        try:
            texts = json.loads(bytes(_member(self.entry, self.memory, CAPTIONS_MEMBER)))
            texts = {name: texts[name] for name in ("captions", "keys", "subsets") if name != "subsets" or name in texts}
            fits = all(len(values) == self.entry.pairs for values in texts.values())
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, DamagedMemberError):
                raise
            raise DamagedMemberError(CAPTIONS_MEMBER, f"is no list of captions ({error})") from error
        if not fits:
            raise DamagedMemberError(CAPTIONS_MEMBER, f"does not have {self.entry.pairs} entries")
        return texts

    def image_rows(self, pairs: np.ndarray) -> np.ndarray:
        """Their rows of image_embed."""
        return self.arrays["image_rows"][pairs] if "image_rows" in self.arrays else pairs

    def copy_states(self, out: np.ndarray, places: np.ndarray, tokens: np.ndarray) -> None:
        """Write the states of the record's ``tokens`` to the rows ``places`` of ``out``."""
        if "text_states" in self.arrays:
            copy_rows(out, places, self.arrays["text_states"], tokens)
        elif "text_states_int8" in self.arrays and len(places):
            stored, scale = self.arrays["text_states_int8"][tokens], self.arrays["text_states_scale"][tokens]
            first, last = int(places[0]), int(places[-1]) + 1
            if last - first == len(places):
                from_int8(stored, scale, out[first:last])
            else:
                out[places] = from_int8(stored, scale)


def _array(entry: RecordEntry, memory: RecordMemory, field: str, shape: tuple[int, ...]) -> np.ndarray:
    """A view on one member, after a check of its header against the manifest. Nothing is unpickled."""
    name, dtype = member_name(field), STORED[field].dtype
    content = _member(entry, memory, name)
    header = io.BytesIO(content[:1024])
    try:
        if np.lib.format.read_magic(header) != (1, 0):
            raise ValueError("not version 1.0 of the npy format")
        found = np.lib.format.read_array_header_1_0(header)
    except ValueError as error:
        raise DamagedMemberError(name, f"is not an array ({error})") from error
    if found != (shape, False, dtype):
        raise DamagedMemberError(name, f"holds {found[2]} of shape {found[0]} instead of {dtype} of shape {shape}")
    if len(content) != header.tell() + int(np.prod(shape)) * dtype.itemsize:
        raise DamagedMemberError(name, f"has {len(content)} bytes, which does not fit its shape {shape}")
    return np.frombuffer(content, dtype, offset=header.tell()).reshape(shape)


def _member(entry: RecordEntry, memory: RecordMemory, name: str) -> memoryview:
    if name not in entry.members:
        raise DamagedMemberError(name, "is missing from the manifest")
    offset, size = entry.members[name]
    start, end = offset - memory.first, offset - memory.first + size
    if not 0 <= start <= end <= len(memory.bytes):
        end_of_shard = memory.first + len(memory.bytes)
        raise DamagedMemberError(name, f"lies outside the shard, at bytes {offset} to {offset + size} of {end_of_shard}")
    return memoryview(memory.bytes)[start:end]
