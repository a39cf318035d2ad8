"""Reasons why a sample is no pair.

A reason is a kind with a detail in brackets: "no caption (there are: jpg, npy)".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from eclipse_pl.data.manifest import SkippedPair
from eclipse_pl.raw.names import NOT_READ_IMAGES

NO_IMAGE = "no image"
NO_CAPTION = "no caption"
NO_KEY = "no key"
APART = "its files lie apart in the tar, which is not sorted by name: `tar --sort=name` packs it so"
TWICE = "its key occurs twice in the tar, and the first sample is used"
SAME_NAME = "another file has its name but for upper and lower case, and that one is used"
UNUSED = "another image of its key is used"
REPEATED = "its caption occurs before, and the first is used"
NOT_READ = "one of its files is not read"
ODD_TEXT = "odd characters"
BAD_CAPTION = "its caption is no text"
BAD_NEGATIVE_CAPTION = "its negative captions are not one text for each caption"
BAD_JSON = "its json cannot be read"
BAD_SPLIT = "it names an unknown split"
BAD_SUBSET = "its subset has a name that tables use"
BAD_FIELD = "one of its fields is no text"
MISSING = "its image file is missing"
BAD_IMAGE = "the image cannot be decoded"
BAD_NEGATIVE = "the counterpart's image cannot be decoded"
NOT_FINITE = "its embedding is not finite in float16"
VANISHES = "its embedding is zero, or vanishes in float16"
_MOST_HELD = 6


def skipped(key: str, kind: str, detail: str = "", held: Sequence[str] = ()) -> SkippedPair:
    """Describe a skipped pair. ``held`` are the suffixes of the sample's files."""
    if named := [suffix for suffix in held if suffix]:
        more = f" and {len(named) - _MOST_HELD} more" if len(named) > _MOST_HELD else ""
        unread = [f".{suffix}" for suffix in named if suffix.rpartition(".")[2].lower() in NOT_READ_IMAGES]
        refused = f"; {', '.join(unread)} {'are' if len(unread) > 1 else 'is'} not read" if unread else ""
        detail = f"there are: {', '.join(named[:_MOST_HELD])}{more}{refused}"
    return SkippedPair(shown(key), f"{kind} ({shown(detail)})" if detail else kind)


def by_kind(pairs: Iterable[SkippedPair]) -> str:
    """Count the pairs of each kind, the most frequent kind first."""
    kinds = Counter(pair.reason.partition(" (")[0] for pair in pairs)
    return ", ".join(f"{count:,}: {kind}" for kind, count in sorted(kinds.items(), key=lambda item: (-item[1], item[0])))


def shown(text: str) -> str:
    """Escape control characters and lone surrogates in a text."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
