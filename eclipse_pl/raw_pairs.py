"""Raw pairs: webdataset tars of pictures and captions, as img2dataset writes them, read in order and decoded by workers.

KEY.png | .jpg | .jpeg | .webp   the picture
KEY.txt                          its caption; where there is none, "caption" of KEY.json
KEY.json                         optional: "caption"; "split" (train, val or test), "group" and "subset" of the pair
KEY.negative.png (or .jpg ...)   optional: the picture of the caption's counterpart, for hard negatives
"""

from __future__ import annotations

import glob
import hashlib
import io
import json
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from eclipse_pl.data.manifest import SPLITS, SkippedPair
from eclipse_pl.tar_samples import BrokenSourceError, read_samples

PICTURES = ("png", "jpg", "jpeg", "webp")


@dataclass(frozen=True)
class RawPair:
    """One sample of a source, with its picture still encoded. ``group`` decides the split where ``split`` is None."""

    key: str
    caption: str
    picture: bytes
    negative: bytes | None
    split: str | None
    group: str
    subset: str


@dataclass(frozen=True, eq=False)
class PictureBatch:
    """Decoded pairs of one source, in its order. ``pairs`` have lost their bytes; ``position`` is how far the tar was read."""

    shard: str
    pairs: list[RawPair]
    pixels: Float[Tensor, "pairs 3 height width"]
    negative_pixels: Float[Tensor, "negatives 3 height width"]
    negative_rows: list[int]
    """The pairs that ``negative_pixels`` belong to."""
    skipped: list[SkippedPair]
    position: int
    problem: str | None
    """Why the source ends here, if it is broken."""


def find_sources(patterns: list[str]) -> dict[str, str]:
    """The tars that the patterns name, as {name of the shard to make: source}.

    Braces (``{0000..0009}``) and, for local files, ``* ? [`` are expanded; anything that webdataset opens is taken
    (``https:``, ``s3:``, ``pipe:``). ValueError for a local file that is missing and for two sources of one name.
    """
    from braceexpand import braceexpand

    sources = []
    for url in [url for pattern in patterns for url in braceexpand(pattern)]:
        remote = re.match(r"[a-z0-9]{2,}:", url) is not None
        found = sorted(glob.glob(url)) if not remote and glob.has_magic(url) else [url]
        if not found or not (remote or Path(found[0]).is_file()):
            raise ValueError(
                f"There is no source {url}. `source` takes webdataset tars: 'raw/{{0000..0009}}.tar', 'raw/*.tar', or URLs."
            )
        sources += found
    named: dict[str, str] = {}
    for source in sources:
        tars = re.findall(r"([^/\s=?]+)\.(?:tar(?:\.\w+)?|tgz)\b", source)
        if not tars:
            raise ValueError(
                f"The source {source} does not end in .tar, so its shard has no name. Sources are webdataset tars."
            )
        name = tars[-1].replace(".", "_") + ".tar"
        if name in named:
            raise ValueError(
                f"The sources {named[name]} and {source} would both become the shard {name}. Give tars of different names, or "
                "embed them into two folders."
            )
        named[name] = source
    if not named:
        raise ValueError("No source was given. `source` takes webdataset tars, such as 'raw/*.tar'.")
    return named


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


def picture_batches(
    named: dict[str, str], transform: Callable[[Image.Image], Tensor], batch_size: int, workers: int
) -> Iterator[PictureBatch]:
    """All pairs of all sources in order, at most ``batch_size`` at a time, decoded by ``workers`` processes (0: by this one).

    A batch never spans two sources, so that what a shard holds does not depend on the shards made before it. The tars are
    read here and their bytes sent to the workers: any stream can be read, and the order is that of the tars.
    """
    batches = (batch for shard, source in named.items() for batch in _encoded_batches(shard, source, batch_size))
    loader: DataLoader[PictureBatch] = DataLoader(
        _PictureDecoder(transform), sampler=batches, batch_size=None, num_workers=workers, collate_fn=_as_it_is
    )
    return iter(loader)


@dataclass(frozen=True)
class _EncodedBatch:
    shard: str
    pairs: list[RawPair]
    skipped: list[SkippedPair]
    position: int
    problem: str | None = None


class _PictureDecoder(Dataset[PictureBatch]):
    """Asked for a batch of encoded pictures, gives the decoded ones. The 'index' is the batch itself."""

    def __init__(self, transform: Callable[[Image.Image], Tensor]) -> None:
        self.transform = transform

    def __getitem__(self, batch: _EncodedBatch) -> PictureBatch:
        pairs: list[RawPair] = []
        pixels: list[Tensor] = []
        negatives: dict[int, Tensor] = {}
        skipped = list(batch.skipped)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata concern nobody, a million pictures long
            for pair in batch.pairs:
                picture = self.decode(pair.picture)
                negative = None if pair.negative is None else self.decode(pair.negative)
                if picture is None or (pair.negative is not None and negative is None):
                    skipped.append(
                        SkippedPair(pair.key, f"the {'picture' if picture is None else 'counterpart'} cannot be decoded")
                    )
                    continue
                if negative is not None:
                    negatives[len(pairs)] = negative
                pixels.append(picture)
                pairs.append(RawPair(pair.key, pair.caption, b"", None, pair.split, pair.group, pair.subset))
        # In a worker `default_collate` stacks into shared memory, so that the batch is not copied again on its way out.
        stacked = default_collate(pixels) if pixels else torch.empty(0, 3, 1, 1)
        return PictureBatch(
            shard=batch.shard,
            pairs=pairs,
            pixels=stacked,
            negative_pixels=default_collate(list(negatives.values())) if negatives else torch.empty(0, *stacked.shape[1:]),
            negative_rows=list(negatives),
            skipped=skipped,
            position=batch.position,
            problem=batch.problem,
        )

    def decode(self, content: bytes) -> Tensor | None:
        try:
            with Image.open(io.BytesIO(content)) as picture:
                return self.transform(picture)
        except Exception:  # Pillow and its plug-ins raise a dozen kinds for a broken file, and none may stop the run
            return None


def _as_it_is(batch: Any) -> Any:
    return batch


def _encoded_batches(shard: str, source: str, batch_size: int) -> Iterator[_EncodedBatch]:
    pairs: list[RawPair] = []
    skipped: list[SkippedPair] = []
    position, problem = 0, None
    try:
        for position, key, sample in read_samples(source):
            pair = _raw_pair(key, sample)
            if isinstance(pair, SkippedPair):
                skipped.append(pair)
            else:
                pairs.append(pair)
            if len(pairs) == batch_size:
                yield _EncodedBatch(shard, pairs, skipped, position)
                pairs, skipped = [], []
    except BrokenSourceError as error:
        problem = str(error)
    yield _EncodedBatch(shard, pairs, skipped, position, problem)


def _raw_pair(key: str, sample: dict[str, bytes]) -> RawPair | SkippedPair:
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
    return RawPair(key, caption.strip(), picture, negative, split, group, "" if subset is None else str(subset))
