"""``manifest.json``: the content of a set of shards, and where each record is in its tar: docs/data.md, docs/design.md.

{"schema": 2, "space": {...}, "space_sha256": "...",
 "made_by": "python -m data_prep embed ...", "asked": {"val": 0.4, "test": 0.0},
 "images": {"upright": true, "background": "white"},
 "pairs": 5, "tokens": 65, "splits": {"train": 3, "val": 2},
 "shards": [{"name": "0000.tar", "pairs": 5, "tokens": 65, "bytes": 10240, "sha256": "...", "cut": 0,
             "skipped": [{"key": "...", "reason": "..."}], "others": 1,
             "source": {"version": "...", "sha256": "...", "drawn": "..."},
             "records": [{"key": "0000_00000", "split": "train", "pairs": 3, "images": 3, "tokens": 39, "subjects": 0,
                          "sha256": "...", "members": {"image_embed.npy": [512, 1664], ...}}]}]}
"""

from __future__ import annotations

import hashlib
import json
import mmap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from eclipse_pl.data.states import States, states_of
from eclipse_pl.files import file_sha256, write_json

SCHEMA = 2
MANIFEST_NAME = "manifest.json"
SPACE_NAME = "space.safetensors"
SPLITS = ("train", "val", "test")
WHAT_A_SET_IS = (
    f"A set of shards is a folder with {MANIFEST_NAME} and {SPACE_NAME}; "
    "`python -m data_prep embed --source ... --encoder ... --out FOLDER` writes one."
)
Check = Literal["size", "record", "sha256"]
"""The check against the manifest: sizes only, also each record's checksum when it is first read, or every byte at once."""


@dataclass(frozen=True)
class SkippedPair:
    """A pair of the source that was left out, and the reason."""

    key: str
    reason: str


@dataclass(frozen=True)
class RecordEntry:
    """One record of a shard. ``members`` gives each member's first byte in the tar and its number of bytes.

    ``images`` and ``subjects`` count rows (see `chunk`). ``sha256`` is the hash of the contents of all members in order.
    """

    key: str
    split: str
    pairs: int
    images: int
    tokens: int
    subjects: int
    sha256: str
    members: dict[str, tuple[int, int]]

    @property
    def span(self) -> tuple[int, int]:
        """The first byte of its first member in the shard, and the byte after its last member."""
        places = self.members.values()
        return min(offset for offset, _ in places), max(offset + size for offset, size in places)

    def is_whole(self, memory: bytes | mmap.mmap, first: int = 0) -> bool:
        """True if this record has the bytes that were written. ``memory`` holds the shard from its byte ``first``."""
        digest = hashlib.sha256()
        for offset, size in sorted(self.members.values()):
            digest.update(memoryview(memory)[offset - first : offset - first + size])
        return digest.hexdigest() == self.sha256


@dataclass(frozen=True)
class SourceEntry:
    """The source tar that a shard was made from, in its state at that time.

    ``version`` detects quickly that the tar is unchanged, or is "" (see `raw.source.Part.version`). ``sha256`` is the hash of
    its bytes. ``drawn`` is a hash of the splits that were drawn for its pairs, or "".
    """

    version: str
    sha256: str
    drawn: str = ""


@dataclass(frozen=True)
class ShardEntry:
    """One shard: a row of the manifest. ``cut`` counts captions that were longer than the context.

    ``others`` counts the entries of the source that are not samples: folders, and files such as img2dataset's statistics.
    """

    name: str
    pairs: int
    tokens: int
    bytes: int
    sha256: str
    cut: int
    skipped: list[SkippedPair]
    others: int
    records: list[RecordEntry]
    source: SourceEntry | None = None
    """None if it was not made from a tar."""

    def problem(self, folder: Path, check: Check = "sha256") -> str | None:
        """The problem of the shard's file, or None: it is missing, truncated, or has other bytes than were written."""
        path = folder / self.name
        if not path.is_file():
            return "is missing"
        if (size := path.stat().st_size) != self.bytes:
            return f"has {size} bytes instead of {self.bytes}"
        if check != "sha256":
            return None
        return None if file_sha256(path) == self.sha256 else "has other bytes than were written (sha256 differs)"

    def to_json(self) -> dict[str, Any]:
        # not asdict, whose deep copies take most of the time of a digest
        return {
            **vars(self),
            "skipped": [dict(vars(pair)) for pair in self.skipped],
            "records": [dict(vars(record)) for record in self.records],
            "source": self.source and dict(vars(self.source)),
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> ShardEntry:
        """Raises KeyError, TypeError or ValueError if the row is not from `to_json`."""
        records = [
            RecordEntry(
                key=str(record["key"]),
                split=str(record["split"]),
                pairs=int(record["pairs"]),
                images=int(record["images"]),
                tokens=int(record["tokens"]),
                subjects=int(record["subjects"]),
                sha256=str(record["sha256"]),
                members={str(name): (int(offset), int(size)) for name, (offset, size) in record["members"].items()},
            )
            for record in row["records"]
        ]
        return cls(
            name=str(row["name"]),
            pairs=int(row["pairs"]),
            tokens=int(row["tokens"]),
            bytes=int(row["bytes"]),
            sha256=str(row["sha256"]),
            cut=int(row["cut"]),
            skipped=[SkippedPair(str(pair["key"]), str(pair["reason"])) for pair in row["skipped"]],
            others=int(row["others"]),
            records=records,
            source=row["source"] and SourceEntry(**{name: str(value) for name, value in row["source"].items()}),
        )


@dataclass(frozen=True)
class Manifest:
    """All shards of a set. ``made_by`` is the command line that made the set. The same command repairs it.

    ``asked`` holds the requested sizes of the splits that were drawn: a fraction of the pairs, or their number.
    ``images`` holds the settings for reading images (see `raw.image`). It is empty if embeddings were imported. If a prior
    sampled the image embeddings, it holds ``teacher`` (the name of the prior), ``teacher_weights`` and ``sampler``.
    """

    space: dict[str, str | int | bool]
    made_by: str
    shards: list[ShardEntry] = field(default_factory=list)
    asked: dict[str, float] = field(default_factory=dict)
    images: dict[str, str | bool] = field(default_factory=dict)
    sources: list[str | dict[str, Any]] = field(default_factory=list)
    """The sources that were embedded: paths and patterns, or a class with its options. Empty if embeddings were imported."""
    space_sha256: str = field(default="", compare=False)
    """SHA-256 of the bytes of ``space.safetensors``, which is written before the manifest. Not checked if it is ""."""

    @property
    def teacher(self) -> str | None:
        """The prior whose samples are the image embeddings, and its sampler; None if they are those of images."""
        return f"{self.images['teacher']} ({self.images['sampler']})" if "teacher" in self.images else None

    @property
    def pairs(self) -> int:
        return sum(shard.pairs for shard in self.shards)

    @property
    def tokens(self) -> int:
        return sum(shard.tokens for shard in self.shards)

    @property
    def states(self) -> States:
        """How the records store their captions."""
        return next((states_of(record.members) for shard in self.shards for record in shard.records), "float16")

    @property
    def splits(self) -> dict[str, int]:
        """Pairs of each split that occurs."""
        counts = {
            split: sum(record.pairs for shard in self.shards for record in shard.records if record.split == split)
            for split in SPLITS
        }
        return {split: count for split, count in counts.items() if count}

    @property
    def warnings(self) -> list[str]:
        """The requested splits that are empty."""
        return [
            f"the split {split} is empty, though {asked:g} was asked for: too few pairs could be drawn"
            for split, asked in self.asked.items()
            if asked and split not in self.splits
        ]

    @property
    def digest(self) -> str:
        """SHA-256 of the content of the set. It does not depend on places of files or on the command line."""
        content = {
            name: value
            for name, value in self.to_json().items()
            if name not in ("made_by", "asked", "images", "sources", "space_sha256")
        }
        content["shards"] = [{name: value for name, value in row.items() if name != "source"} for row in content["shards"]]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "space": self.space,
            "space_sha256": self.space_sha256,
            "made_by": self.made_by,
            "asked": self.asked,
            "images": self.images,
            "sources": self.sources,
            "pairs": self.pairs,
            "tokens": self.tokens,
            "splits": self.splits,
            "shards": [shard.to_json() for shard in self.shards],
        }

    def save(self, folder: str | Path) -> None:
        """Write ``folder/manifest.json`` under a temporary name and rename it."""
        write_json(Path(folder) / MANIFEST_NAME, self.to_json())

    @classmethod
    def load(cls, folder: str | Path) -> Manifest:
        """Read ``folder/manifest.json``. ValueError if it is missing, of another schema, or not a manifest."""
        path = Path(folder) / MANIFEST_NAME
        try:
            return cls.parse(path.read_bytes(), path)
        except (FileNotFoundError, NotADirectoryError):
            raise ValueError(f"There is no {path}. {WHAT_A_SET_IS}") from None

    @classmethod
    def parse(cls, written: bytes, path: Path | str) -> Manifest:
        """Read the bytes of a manifest, which come from ``path``. ValueError if it is of another schema, or not a manifest."""
        try:
            content = json.loads(written.decode("utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not JSON ({error}). Run the `data_prep` command that made the set again.") from None
        schema = content.get("schema") if isinstance(content, dict) else None
        if isinstance(schema, int) and schema > SCHEMA:
            raise ValueError(
                f"{path} was written by a newer eclipse_pl (schema {schema}; this one reads {SCHEMA}). Upgrade eclipse_pl."
            )
        if isinstance(schema, int) and 0 < schema < SCHEMA:
            raise ValueError(
                f"{path} was written by an older eclipse_pl (schema {schema}; this one reads {SCHEMA}). Make the "
                f"set again in another folder: `{content.get('made_by')}`."
            )
        if schema != SCHEMA:
            raise ValueError(f"{path} is no manifest of a set of shards (its schema is {schema!r}, expected {SCHEMA}).")
        try:
            manifest = cls(
                space=dict(content["space"]),
                made_by=str(content["made_by"]),
                shards=[ShardEntry.from_json(row) for row in content["shards"]],
                asked={str(split): float(asked) for split, asked in content["asked"].items()},
                images=dict(content["images"]),
                sources=list(content["sources"]),
                space_sha256=str(content.get("space_sha256", "")),
            )
            totals = {"pairs": manifest.pairs, "tokens": manifest.tokens, "splits": manifest.splits}
            wrong = [name for name, total in totals.items() if content[name] != total]
            for shard in manifest.shards:
                sums = (sum(record.pairs for record in shard.records), sum(record.tokens for record in shard.records))
                wrong += [f"records of {shard.name}"] if sums != (shard.pairs, shard.tokens) else []
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{path} is damaged ({type(error).__name__}: {error}). Run the `data_prep` command that made the set again."
            ) from error
        if wrong:
            raise ValueError(f"{path} is damaged: its {', '.join(wrong)} do not add up. Repair it with `{manifest.made_by}`.")
        if len(states := {states_of(record.members) for shard in manifest.shards for record in shard.records}) > 1:
            raise ValueError(
                f"{path} names records of {' and of '.join(sorted(states))}; the captions of a set are stored in one form. "
                f"Make the set again in another folder: `{manifest.made_by}`."
            )
        unknown = {record.split for shard in manifest.shards for record in shard.records} - set(SPLITS)
        if unknown:
            raise ValueError(f"{path} names the split {sorted(unknown)[0]!r}; the splits are {', '.join(SPLITS)}.")
        return manifest
