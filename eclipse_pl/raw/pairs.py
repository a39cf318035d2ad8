"""RawPair: one image and its caption in a webdataset tar, as img2dataset writes them.

KEY.png | .jpg | .webp ...       image (suffixes of `names.IMAGES`, in any case)
KEY.txt                          caption; if it is missing or blank, KEY.json holds the caption (`texts`)
KEY.json                         optional: captions; "split" (train, val or test), "group" and "subset" of the pair
KEY.negative.png (or .jpg ...)   optional: hard negative, the image of a caption with swapped attributes

Each caption of a list in KEY.json gives a pair: KEY, KEY#1, KEY#2 ...
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eclipse_pl.data.chunk import content_number
from eclipse_pl.data.manifest import SPLITS, SkippedPair
from eclipse_pl.raw.names import IMAGES
from eclipse_pl.raw.reasons import BAD_JSON, BAD_SPLIT, skipped
from eclipse_pl.raw.tar_samples import TarSample
from eclipse_pl.raw.texts import NoPairError, about_of, captions_of, kind_of, require_plain


@dataclass(frozen=True)
class RawPair:
    """One pair of a source, with its encoded image.

    ``split`` and ``group`` come from KEY.json. ``image_number`` is a hash of the image, equal for all its pairs.
    """

    key: str
    caption: str
    image: bytes
    negative: bytes | None
    split: str | None
    group: str | None
    subset: str
    image_number: int


def normal_caption(caption: str) -> str:
    """Return the caption in lower case and with single spaces. Equal ones get the same split."""
    return " ".join(caption.lower().split())


def raw_pairs(sample: TarSample) -> list[RawPair] | SkippedPair:
    """Return one pair per caption of a sample with an image, or the reason why there is none."""
    image = next(sample.files[suffix] for suffix in IMAGES if suffix in sample.files)
    negative = next((content for suffix in IMAGES if (content := sample.files.get(f"negative.{suffix}")) is not None), None)
    try:
        key = require_plain(sample.key, "name")
        about = about_of(sample.files.get("json"))
        captions = captions_of(sample.files.get("txt"), about)
        split, group, subset = _split(about.get("split")), _name(about, "group"), _name(about, "subset") or ""
    except NoPairError as error:
        return skipped(sample.key, error.kind, error.detail)
    keys, number = [key, *(f"{key}#{number}" for number in range(1, len(captions)))], content_number(image)
    return [
        RawPair(name, caption, image, negative, split, group, subset, number)
        for name, caption in zip(keys, captions, strict=True)
    ]


def _split(name: Any) -> str | None:
    if name is not None and name not in SPLITS:
        raise NoPairError(BAD_SPLIT, f"{name!r}; the splits are {', '.join(SPLITS)}")
    return name


def _name(about: dict[str, Any], field: str) -> str | None:
    found = about.get(field)
    if found is None:
        return None
    if isinstance(found, bool | dict | list):
        raise NoPairError(BAD_JSON, f"its {field!r} is {kind_of(found)}, and text is expected")
    return require_plain(str(found), field)
