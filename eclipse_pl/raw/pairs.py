"""RawPair: one image and its caption out of a webdataset tar, as img2dataset writes them.

KEY.png | .jpg | .jpeg | .webp   the picture
KEY.txt                          its caption; where there is none, "caption" of KEY.json
KEY.json                         optional: "caption"; "split" (train, val or test), "group" and "subset" of the pair
KEY.negative.png (or .jpg ...)   optional: the picture of the caption's counterpart, for hard negatives
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from eclipse_pl.data.chunk import content_number
from eclipse_pl.data.manifest import SPLITS, SkippedPair
from eclipse_pl.raw.tar_samples import BrokenSourceError

PICTURES = ("png", "jpg", "jpeg", "webp")


@dataclass(frozen=True)
class RawPair:
    """One sample of a source, with its picture still encoded. ``group`` decides the split where ``split`` is None.

    ``image`` is the number that all pairs of this picture have, wherever they lie: a hash of its bytes.
    """

    key: str
    caption: str
    picture: bytes
    negative: bytes | None
    split: str | None
    group: str
    subset: str
    image: int


def normal_caption(caption: str) -> str:
    """What makes two captions the same one for the split: lower case, single spaces."""
    return " ".join(caption.lower().split())


def split_of(pair: RawPair, val: float, test: float) -> str:
    """The pair's own split, else one drawn from its group: pairs of one group (or caption) never lie in two splits.

    The draw is the group's sha256, so it does not depend on the order of the pairs, on other pairs or on a seed; a pair
    that is in ``test`` stays there when ``val`` changes.
    """
    if pair.split is not None:
        return pair.split
    draw = int.from_bytes(hashlib.sha256(pair.group.encode()).digest()[:8], "big") / 2**64
    return "test" if draw < test else "val" if draw < test + val else "train"


def raw_pair(key: str, sample: dict[str, bytes]) -> RawPair | SkippedPair:
    """The pair, or why there is none. BrokenSourceError for a split of another name than ours."""
    picture = next((sample[suffix] for suffix in PICTURES if suffix in sample), None)
    if picture is None:
        return SkippedPair(key, "no picture")
    try:
        about = json.loads(sample.get("json", b"{}"))
        caption = sample["txt"].decode() if "txt" in sample else about.get("caption") or ""
        split, group, subset = (about.get(name) for name in ("split", "group", "subset"))
    except (ValueError, AttributeError, RecursionError):
        return SkippedPair(key, "its text is not UTF-8, or its json is not an object")
    if not isinstance(caption, str) or not caption.strip():
        return SkippedPair(key, "no caption")
    if split is not None and split not in SPLITS:
        raise BrokenSourceError(f"the json of {key} names the split {split!r}; the splits are {', '.join(SPLITS)}")
    negative = next((sample[f"negative.{suffix}"] for suffix in PICTURES if f"negative.{suffix}" in sample), None)
    group = normal_caption(caption) if group is None else str(group)
    subset = "" if subset is None else str(subset)
    return RawPair(key, caption.strip(), picture, negative, split, group, subset, content_number(picture))
