"""The split of each pair that names none: drawn for all sources together, so that what belongs together lies in one split."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Int64

from eclipse_pl.data.chunk import content_number
from eclipse_pl.data.manifest import SPLITS, SkippedPair
from eclipse_pl.data.together import components
from eclipse_pl.files import write_atomically
from eclipse_pl.raw.pairs import RawPair, normal_caption, raw_pairs
from eclipse_pl.raw.source_version import version_of
from eclipse_pl.raw.tar_files import BrokenSourceError
from eclipse_pl.raw.tar_samples import TarSample, TarSamples

CACHE = ".pairs.npz"
"""What a source's pairs are called is kept as SHARD.tar.pairs.npz beside its shard until the set is finished."""
OPEN = -1
"""The split of a pair that names none; the others are numbers of SPLITS."""
LEAST_SHARE = 1e-9
"""A smaller rest of the fractions is a rounding error, and no split that somebody asked for."""


@dataclass(frozen=True, eq=False)
class PairNames:
    """What makes pairs belong together, a row a pair: numbers of the image, of its caption and of the group that is given."""

    image: Int64[np.ndarray, " pairs"]
    caption: Int64[np.ndarray, " pairs"]
    group: Int64[np.ndarray, " pairs"]
    """The image's number where no group is given."""
    split: Int64[np.ndarray, " pairs"]
    """Number of the split that the source names, or OPEN."""

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
    """Number of each pair's split: its own, or drawn for its component, which is all pairs that an image, a caption or a group
    connects.

    The draw is the sha256 of the smallest number of the component's images, so that no order and no seed enters it; what is
    drawn for testing stays there when ``val`` changes. A component with more pairs than the split is to have is for training
    (a caption such as "image" connects thousands), and so is one whose pairs name several splits; if they name one, the rest
    follows. A split that would be empty gets the smallest component of the split with the most, if that one has two.
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
    """What was drawn: the ``splits`` of the pairs of some ``images``, which are sorted, and a hash of them for each shard.

    ``unread``: why a shard's source could not be read.
    """

    images: Int64[np.ndarray, " images"]
    splits: Int64[np.ndarray, " images"]
    digests: dict[str, str]
    unread: dict[str, str]


class SplitDraw:
    """The splits of a set's pairs. The sources are read for it when the first pair comes that names no split.

    ``named``: {shard: source}. ``tell`` is given what is being done. What was read of a source is kept in ``out``, so that
    a run that is started again does not read it for this twice.
    """

    def __init__(self, named: dict[str, str], out: Path, val: float, test: float, tell: Callable[[str], object] = str) -> None:
        self.named, self.out, self.val, self.test, self.tell = named, out, val, test, tell
        self._drawn: Draw | None = None

    def split_of(self, shard: str, pair: RawPair) -> str:
        """BrokenSourceError for a pair that was not found when the sources were read for the draw."""
        if pair.split is not None:
            return pair.split
        if not (self.val or self.test):
            return "train"
        drawn = self.draw()
        row = int(np.searchsorted(drawn.images, pair.image_number))
        if row == len(drawn.images) or drawn.images[row] != pair.image_number:
            changed = f"{pair.key} was not there when the splits were drawn: the source has changed meanwhile"
            raise BrokenSourceError(drawn.unread.get(shard, changed))
        return SPLITS[drawn.splits[row]]

    def digest(self, shard: str) -> str:
        """Of the splits drawn for the shard's pairs; "" where none were."""
        return "" if self._drawn is None else self._drawn.digests.get(shard, "")

    def draw(self) -> Draw:
        if self._drawn is None:
            self._drawn = self._draw()
        return self._drawn

    def _draw(self) -> Draw:
        parts: dict[str, PairNames] = {}
        unread: dict[str, str] = {}
        for number, (shard, source) in enumerate(self.named.items(), 1):
            self.tell(f"reading all sources to draw the splits, {number} of {len(self.named)}")
            try:
                parts[shard] = self._names(shard, source)
            except BrokenSourceError as error:
                unread[shard] = str(error)
        names = PairNames(*np.concatenate([PairNames.of([]).table, *(part.table for part in parts.values())], axis=1))
        splits, is_open = draw_splits(names, self.val, self.test), names.split == OPEN
        digests, first = {}, 0
        for shard, part in parts.items():
            end = first + len(part.split)
            drawn = splits[first:end][is_open[first:end]]
            digests[shard] = hashlib.sha256(drawn.astype(np.uint8).tobytes()).hexdigest()[:16] if len(drawn) else ""
            first = end
        images, rows = np.unique(names.image[is_open], return_index=True)
        return Draw(images, splits[is_open][rows], digests, unread)

    def _names(self, shard: str, source: str) -> PairNames:
        path, version = self.out / f"{shard}{CACHE}", version_of(source)
        with suppress(OSError, ValueError, KeyError, BadZipFile), np.load(path, allow_pickle=False) as kept:
            if version and str(kept["version"]) == version:
                return PairNames(*kept["table"])
        names = PairNames.of(pair for sample in TarSamples(source) for pair in _pairs(sample))
        buffer = io.BytesIO()
        np.savez(buffer, version=np.array(version), table=names.table)
        write_atomically(path, buffer.getvalue())
        return names


def _pairs(sample: TarSample | SkippedPair) -> list[RawPair]:
    found = sample if isinstance(sample, SkippedPair) else raw_pairs(sample)
    return [] if isinstance(found, SkippedPair) else found
