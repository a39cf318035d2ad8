"""The samples of a tar: adjacent files with the same key, as webdataset groups them.

Every file belongs to a sample, or is counted as another file that tars often hold. A sample that is not whole (its files lie
apart, its key occurs twice, it has no image or caption) becomes a skipped pair with its reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from eclipse_pl.data.manifest import SkippedPair
from eclipse_pl.raw.names import IMAGES, is_expected, is_statistics, known_name, other_name
from eclipse_pl.raw.reasons import APART, NO_CAPTION, NO_IMAGE, NOT_READ, TWICE, skipped
from eclipse_pl.raw.source import BrokenSourceError
from eclipse_pl.raw.tar_files import TarFiles


@dataclass
class TarSample:
    """One sample. ``files`` holds the content of known suffixes."""

    key: str
    files: dict[str, bytes] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    """Known suffixes without content -> reason."""
    other: list[str] = field(default_factory=list)
    """Unknown suffixes."""

    @property
    def known(self) -> set[str]:
        return self.files.keys() | self.unread.keys()

    @property
    def suffixes(self) -> list[str]:
        return sorted([*self.known, *self.other])

    def holds(self, name: str) -> bool:
        return name.startswith(f"{self.key}.")


class TarSamples:
    """Iterates over the samples of the tar ``source``. Incomplete samples come last.

    It raises BrokenSourceError where the tar cannot be read to its end, or where most samples lie apart.
    """

    def __init__(self, source: str) -> None:
        self._files = TarFiles(source)
        self.others = 0
        """Folders and other files that tars often hold, counted so far."""
        self._whole: dict[str, frozenset[str]] = {}
        self._partial: dict[str, list[TarSample]] = {}

    @property
    def position(self) -> int:
        """Bytes of the source read so far."""
        return self._files.position

    @property
    def sha256(self) -> str:
        """Hash of these bytes."""
        return self._files.digest.hexdigest()

    def __iter__(self) -> Iterator[TarSample | SkippedPair]:
        # A key can hold dots: between a.jpg and a.txt there may be a.b.jpg and a.b.txt. So a sample stays open while the
        # next keys begin with its own.
        open_samples: list[TarSample] = []
        unknown: list[str] = []
        for file in self._files:
            if file.is_folder or is_expected(file.name):
                self.others += 1
                continue
            known = known_name(file.name)
            if known is None:
                owner = next((sample for sample in reversed(open_samples) if sample.holds(file.name)), None)
                if owner is None:
                    unknown.append(file.name)
                else:
                    owner.other.append(file.name[len(owner.key) + 1 :])
                continue
            key, suffix = known
            while open_samples and open_samples[-1].key != key and not open_samples[-1].holds(key):
                yield from self._closed(open_samples.pop())
            if open_samples and open_samples[-1].key == key and suffix in open_samples[-1].known:
                yield from self._closed(open_samples.pop())
            if not (open_samples and open_samples[-1].key == key):
                open_samples.append(TarSample(key))
            sample = open_samples[-1]
            if file.content is None:
                sample.unread[suffix] = file.unread
            else:
                sample.files[suffix] = file.content
            self._settle(unknown, sample)
        for sample in reversed(open_samples):
            yield from self._closed(sample)
        self._settle(unknown, None)
        yield from self._remaining()

    def _settle(self, unknown: list[str], sample: TarSample | None) -> None:
        """Add files of unknown suffixes to the sample that follows them, or to a sample without image and caption."""
        for name in unknown:
            if sample is not None and sample.holds(name):
                sample.other.append(name[len(sample.key) + 1 :])
            else:
                key, suffix = other_name(name)
                if key not in self._whole:
                    self._partial.setdefault(key, []).append(TarSample(key, other=[suffix]))
        unknown.clear()

    def _closed(self, sample: TarSample) -> Iterator[TarSample | SkippedPair]:
        if not is_whole(sample.known):
            sample.files = dict.fromkeys(sample.files, b"")  # only the suffixes are needed
            self._partial.setdefault(sample.key, []).append(sample)
        elif sample.key in self._whole:
            yield skipped(sample.key, TWICE)
        else:
            self._whole[sample.key] = frozenset(sample.known)
            unread = "; ".join(f"its {suffix} is {why}" for suffix, why in sample.unread.items())
            yield skipped(sample.key, NOT_READ, unread) if unread else sample

    def _remaining(self) -> Iterator[SkippedPair]:
        torn = 0
        for key, parts in self._partial.items():
            known = set[str]().union(*(part.known for part in parts))
            suffixes = sorted({suffix for part in parts for suffix in part.suffixes})
            if key not in self._whole and is_statistics(key, suffixes):
                self.others += 1
            elif key in self._whole and known <= self._whole[key]:
                yield skipped(key, TWICE)
            elif key in self._whole or is_whole(known):
                torn += 1
                yield skipped(key, APART, held=suffixes)
            else:
                yield skipped(key, NO_IMAGE if known.isdisjoint(IMAGES) else NO_CAPTION, held=suffixes)
        if torn and torn >= len(self._whole):
            raise BrokenSourceError(
                f"its files are not sorted by name: those of {torn} samples lie apart. Pack it again, for example with "
                "`tar --sort=name -cf NEW.tar -C FOLDER .`"
            )


def is_whole(suffixes: set[str]) -> bool:
    return not suffixes.isdisjoint(IMAGES) and not suffixes.isdisjoint(("txt", "json"))
