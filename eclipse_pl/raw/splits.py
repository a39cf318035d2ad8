"""Draw splits for pairs without a split, over all sources together, so that related pairs get the same split."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Int64

from eclipse_pl.data.chunk import content_number
from eclipse_pl.data.manifest import SPLITS, ShardEntry, SkippedPair, SourceEntry
from eclipse_pl.data.together import components
from eclipse_pl.files import atomic_path
from eclipse_pl.raw.pairs import RawPair, normal_caption
from eclipse_pl.raw.source import BrokenSourceError, Part

CACHE = ".pairs.npz"
"""SHARD.tar.pairs.npz keeps the names of a source's pairs until the set is finished."""
OPEN = -1
"""Split of a pair without one. Other splits are numbers of SPLITS."""
LEAST_SHARE = 1e-9
"""A smaller fraction is a rounding error."""


@dataclass(frozen=True, eq=False)
class PairNames:
    """Numbers of each pair's image, caption and group. Pairs that share one of them get the same split."""

    image: Int64[np.ndarray, " pairs"]
    caption: Int64[np.ndarray, " pairs"]
    group: Int64[np.ndarray, " pairs"]
    """The image's number for a pair without a group."""
    split: Int64[np.ndarray, " pairs"]
    """Number of the source's split, or OPEN."""

    @classmethod
    def of(cls, pairs: Iterable[RawPair]) -> PairNames:
        rows = [
            (
                pair.image_number,
                content_number(normal_caption(pair.caption).encode()),
                pair.image_number if pair.group is None else content_number(pair.group.encode()),
                OPEN if pair.split is None else SPLITS.index(pair.split),
            )
            for pair in pairs
        ]
        return cls(*np.array(rows, dtype=np.int64).reshape(-1, 4).T)

    @property
    def table(self) -> Int64[np.ndarray, "4 pairs"]:
        return np.stack([self.image, self.caption, self.group, self.split])


def draw_splits(names: PairNames, val: float, test: float) -> Int64[np.ndarray, " pairs"]:
    """Return the number of each pair's split: its own, or the one drawn for its component.

    A component is all pairs that images, captions or groups connect. Its draw is the sha256 of its smallest image number, and
    depends on no order or seed. Pairs drawn for testing stay there when ``val`` changes. A component is for training if it
    has more pairs than the split should have (a caption such as "image" connects thousands), or if its pairs name several
    splits. If they name one split, the component gets it. An empty split gets the smallest component of the split with the
    most components.
    """
    train, validation, testing = map(SPLITS.index, ("train", "val", "test"))
    _, place = np.unique(components(names.image, names.caption, names.group), return_inverse=True)
    count, is_open = int(place.max(initial=-1)) + 1, names.split == OPEN
    smallest = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(smallest, place, names.image)
    sizes = np.bincount(place[is_open], minlength=count)
    named = np.stack([np.bincount(place[names.split == split], minlength=count) for split in range(len(SPLITS))])
    found = np.where((named > 0).sum(0) == 1, named.argmax(0), train)
    free = np.flatnonzero((named.sum(0) == 0) & (sizes > 0))
    draw = np.array([content_number(str(number).encode()) / 2**63 for number in smallest[free].tolist()])
    for split, first, share in ((testing, 0.0, test), (validation, test, val)):
        small = sizes[free] <= max(1.0, share * is_open.sum())
        found[free[(first <= draw) & (draw < first + share) & small]] = split
    for split, share in ((train, 1 - val - test), (validation, val), (testing, test)):
        if share > LEAST_SHARE and not named[split].any() and split not in found[free]:
            in_splits = np.bincount(found[free], minlength=len(SPLITS))
            giving = np.flatnonzero(found[free] == in_splits.argmax())
            if len(giving) > 1:
                found[free[min(giving, key=lambda one: (sizes[free[one]], draw[one]))]] = split
    return np.where(is_open, found[place], names.split)


@dataclass(frozen=True, eq=False)
class Draw:
    """Drawn ``splits`` of the pairs of sorted ``images``, the source of each shard as it was read, and why others were not."""

    images: Int64[np.ndarray, " images"]
    splits: Int64[np.ndarray, " images"]
    sources: dict[str, SourceEntry]
    unread: dict[str, str]


class SplitDraw:
    """Draws the splits of a set. The first pair without a split makes it read all sources.

    A resumed run does not read a source twice, because ``out`` keeps the names of its pairs.

    Args:
        named: {shard: part}.
        out: Folder of the set.
        val: Fraction for validation.
        test: Fraction for testing.
        order: Order in which the parts are read. Processes with different orders share the work, because each reads what
            the others have not read yet.
    """

    def __init__(self, named: dict[str, Part], out: Path, val: float, test: float, order: Sequence[str] = ()) -> None:
        self.named, self.out, self.val, self.test = named, out, val, test
        self.order = order or list(named)
        self.note: Callable[[str], object] = str
        """Called with the present activity."""
        self._drawn: Draw | None = None

    def split_of(self, shard: str, pair: RawPair) -> str:
        """Return the split of a pair.

        Raises:
            BrokenSourceError: The source did not hold the pair during the draw.
        """
        if pair.split is not None:
            return pair.split
        if not (self.val or self.test):
            return "train"
        drawn = self.draw()
        row = int(np.searchsorted(drawn.images, pair.image_number))
        if row == len(drawn.images) or drawn.images[row] != pair.image_number:
            changed = f"{pair.key} was missing when the splits were drawn: the source has changed meanwhile"
            raise BrokenSourceError(drawn.unread.get(shard, changed))
        return SPLITS[drawn.splits[row]]

    def digest(self, shard: str) -> str:
        """Return the hash of the splits drawn for the shard's pairs, or "" where none were drawn."""
        return self._drawn.sources[shard].drawn if self._drawn is not None and shard in self._drawn.sources else ""

    def confirmed(self, entry: ShardEntry) -> ShardEntry | None:
        """Return the entry with the present version of its source, or None if its shard is not of this draw.

        A shard is of this draw if its source has the content that was read for the draw, and its pairs the drawn splits. Where
        a source has no version, the splits alone decide: a pipe may give other bytes each time.
        """
        read, source = self.draw().sources.get(entry.name), entry.source
        if read is None or source is None or source.drawn != read.drawn:
            return None
        if not read.version:
            return entry
        return replace(entry, source=read) if source.sha256 == read.sha256 else None

    @property
    def is_drawn(self) -> bool:
        return self._drawn is not None

    def draw(self) -> Draw:
        if self._drawn is None:
            self._drawn = self._draw()
        return self._drawn

    def _draw(self) -> Draw:
        read: dict[str, tuple[PairNames, SourceEntry]] = {}
        unread: dict[str, str] = {}
        for number, shard in enumerate(self.order, 1):
            self.note(f"reading all sources to draw the splits, {number} of {len(self.named)}")
            try:
                read[shard] = self._names(shard, self.named[shard])
            except BrokenSourceError as error:
                unread[shard] = str(error)
        in_order = {shard: read[shard] for shard in self.named if shard in read}
        names = PairNames(*np.concatenate([PairNames.of([]).table, *(one.table for one, _ in in_order.values())], axis=1))
        splits, is_open = draw_splits(names, self.val, self.test), names.split == OPEN
        sources, first = {}, 0
        for shard, (of_part, source) in in_order.items():
            end = first + len(of_part.split)
            drawn = splits[first:end][is_open[first:end]]
            digest = hashlib.sha256(drawn.astype(np.uint8).tobytes()).hexdigest()[:16] if len(drawn) else ""
            sources[shard] = replace(source, drawn=digest)
            first = end
        images, rows = np.unique(names.image[is_open], return_index=True)
        return Draw(images, splits[is_open][rows], sources, unread)

    def _names(self, shard: str, part: Part) -> tuple[PairNames, SourceEntry]:
        path, version = self.out / f"{shard}{CACHE}", part.version()
        with suppress(OSError, EOFError, ValueError, KeyError, BadZipFile), np.load(path, allow_pickle=False) as kept:
            if version and str(kept["version"]) == version:
                return PairNames(*kept["table"]), SourceEntry(version, str(kept["sha256"]))
        reading = part.read()
        names = PairNames.of(pair for found in reading if not isinstance(found, SkippedPair) for pair in found)
        source = SourceEntry(version, reading.sha256)
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.savez(file, version=np.array(version), sha256=np.array(source.sha256), table=names.table)
        return names, source
