"""RawPair: one encoded image and one caption.

Each sample of a source is an image with one or several captions. Each caption gives a pair: KEY, KEY#1, KEY#2 ...
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eclipse_pl.data.chunk import content_number
from eclipse_pl.data.manifest import SPLITS, SkippedPair
from eclipse_pl.data.subset_names import require_subset_name
from eclipse_pl.raw.reasons import BAD_FIELD, BAD_SPLIT, BAD_SUBSET, skipped
from eclipse_pl.raw.texts import NoPairError, captions_of, kind_of, require_plain


@dataclass(frozen=True)
class RawPair:
    """One pair of a source, with its encoded image.

    ``split`` and ``group`` are those that the source names. ``image_number`` is a hash of the image, equal for all its pairs.
    ``negative`` and ``negative_caption`` are the pair's hard negative: an image and a text with swapped attributes.
    """

    key: str
    caption: str
    image: bytes
    negative: bytes | None
    split: str | None
    group: str | None
    subset: str
    image_number: int
    negative_caption: str | None = None


def normal_caption(caption: str) -> str:
    """Return the caption in lower case and with single spaces. Equal ones get the same split."""
    return " ".join(caption.lower().split())


def pairs_of(
    key: str, image: bytes, about: dict[str, Any], txt: bytes | None = None, negative: bytes | None = None
) -> list[RawPair] | SkippedPair:
    """Return one pair per caption, or the reason why the sample gives none.

    Args:
        key: Name of the sample.
        image: The encoded image.
        about: Its captions (`texts.captions_of`), and optional "split" (train, val or test), "group" and "subset".
        txt: Content of a text file with the caption, which comes first if it is not blank.
        negative: Encoded hard negative, the image of a caption with swapped attributes.
    """
    try:
        require_plain(key, "name")
        captions = captions_of(txt, about)
        split, group, subset = _split(about.get("split")), _name(about, "group"), _subset(about)
    except NoPairError as error:
        return skipped(key, error.kind, error.detail)
    keys, number = [key, *(f"{key}#{number}" for number in range(1, len(captions)))], content_number(image)
    return [
        RawPair(name, caption, image, negative, split, group, subset, number, other)
        for name, (caption, other) in zip(keys, captions, strict=True)
    ]


def _split(name: Any) -> str | None:
    plain = (name.strip() or None) if isinstance(name, str) else name
    if plain is not None and plain not in SPLITS:
        raise NoPairError(BAD_SPLIT, f"{plain!r}; the splits are {', '.join(SPLITS)}")
    return plain


def _subset(about: dict[str, Any]) -> str:
    subset = _name(about, "subset") or ""
    try:
        require_subset_name(subset)
    except ValueError as error:
        raise NoPairError(BAD_SUBSET, str(error)) from None
    return subset


def _name(about: dict[str, Any], field: str) -> str | None:
    found = about.get(field)
    if found is None:
        return None
    if isinstance(found, bool | dict | list):
        raise NoPairError(BAD_FIELD, f"its {field!r} is {kind_of(found)}, and text is expected")
    return require_plain(str(found).strip(), field) or None
