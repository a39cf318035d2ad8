"""Source: a place that raw pairs come from. Each of its parts becomes one shard."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from eclipse_pl.data.manifest import SkippedPair, SourceEntry
from eclipse_pl.raw.pairs import RawPair


class BrokenSourceError(ValueError):
    """A part that cannot be read to its end, or contradicts itself."""


class Reading(ABC):
    """One pass over a part. It yields all pairs of an image together, or the reason why a sample is no pair."""

    position = 0
    """How much of the part was read so far, in the unit of `Part.size`."""
    others = 0
    """Entries that are no samples, such as statistics, counted so far."""

    @abstractmethod
    def __iter__(self) -> Iterator[list[RawPair] | SkippedPair]:
        """Iterate once. BrokenSourceError where the part cannot be read to its end."""

    @property
    @abstractmethod
    def sha256(self) -> str:
        """Hash of the content that was read so far."""


class Part(ABC):
    """The pairs of one shard. ``str(part)`` names it in messages."""

    @property
    @abstractmethod
    def size(self) -> int | None:
        """Its size in bytes or images, if it is known before reading. It is for the display of progress."""

    @abstractmethod
    def version(self) -> str:
        """Describe the present state without reading the images, or return "" if that is impossible."""

    @abstractmethod
    def sha256(self) -> str:
        """Hash the content, as `Reading.sha256` does at the end. BrokenSourceError if it cannot be read."""

    @abstractmethod
    def read(self) -> Reading:
        """Begin to read."""

    def unchanged(self, before: SourceEntry) -> SourceEntry | None:
        """Return ``before`` with the present version if the part has the same content, otherwise None.

        It reads the content only where the version does not decide.
        """
        version = self.version()
        if version and version == before.version:
            return before
        return replace(before, version=version) if self.sha256() == before.sha256 else None


class Listing(NamedTuple):
    """The content of a source."""

    found: str
    """A few words for the user, for example ``an image folder: 57 images``."""
    parts: dict[str, Part]
    """{name of the new shard: part}."""


@dataclass(frozen=True)
class Source(ABC):
    """A place that raw pairs come from. Its fields are its options."""

    @abstractmethod
    def listing(self) -> Listing:
        """Find the parts.

        Raises:
            ValueError: The source is missing, or is not of this kind.
        """

    @staticmethod
    def at(path: str) -> Source:
        """Find the source at a path, URL or pattern, as `find_sources.source_of` does."""
        from eclipse_pl.raw.find_sources import source_of

        return source_of(path)

    def to_json(self) -> dict[str, Any]:
        """The class and its options, for the manifest."""
        return {"class": type(self).__name__, **asdict(self)}


def require_shard_images(count: int) -> None:
    """Raise ValueError where a shard cannot have so many images."""
    if count < 1:
        raise ValueError(f"--source.shard_images is {count}; it must be 1 or more.")


def shard_stem(name: str) -> str:
    """A name as the beginning of a shard's name: dots are not allowed there."""
    return re.sub(r"[^\w-]+", "_", name).strip("_") or "pairs"
