"""Features of images: extracted once, kept with the protocol that they came by, gathered over ranks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, distributed

from eclipse_pl.files import write_atomically
from eclipse_pl.scorers.feature_extractors import FeatureExtractor
from eclipse_pl.scorers.network_scorer import UNREADABLE


@dataclass(frozen=True, eq=False)
class Features:
    """One row an image, in order of the images' names."""

    values: Float[Tensor, "images dim"]
    names: tuple[str, ...]
    extractor: str
    """Version of the network that made them."""
    preparation: str
    """What was done to the images before. Features of unequal extractors or preparations are never compared."""
    source: str = ""
    """Of a reference: the hash of its images (`images_hash`)."""

    def __len__(self) -> int:
        return len(self.names)

    def save(self, path: Path) -> None:
        from safetensors.torch import save

        told = {"names": self.names, "extractor": self.extractor, "preparation": self.preparation, "source": self.source}
        # one entry only: safetensors writes several in an order of chance
        write_atomically(path, save({"features": self.values.contiguous()}, {"protocol": json.dumps(told)}))

    @classmethod
    def load(cls, path: Path) -> Features:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), "pt") as file:
                told = json.loads((file.metadata() or {})["protocol"])
                names = tuple(told.pop("names"))
                return cls(file.get_tensor("features"), names, **told)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} holds no features of images ({error}). Remove it, and it is made anew.") from error


def extract(
    sources: Mapping[str, Path | Image.Image], extractor: FeatureExtractor, side: int | None = None, batch_size: int = 32
) -> tuple[Features, dict[str, str]]:
    """Features of all images that can be read, and of the others why not.

    Args:
        sources: images by name; their order does not matter.
        side: images are scaled to this shorter side, bicubic, and cut to a square in the middle. None: taken as they are.
    """
    unreadable: dict[str, str] = {}
    rows: dict[str, Tensor] = {}
    with torch.inference_mode(), torch.autocast(extractor.load().type, enabled=False):
        for names, images in _batches(sources, side, batch_size, unreadable):
            rows.update(zip(names, extractor.features(images).float().cpu(), strict=True))
    order = tuple(sorted(rows))
    values = torch.stack([rows[name] for name in order]) if rows else torch.zeros(0, 0)
    return Features(values, order, extractor.version, _preparation(side)), unreadable


def reference_features(
    cache: Path | None,
    sources: Mapping[str, Path | Image.Image],
    extractor: FeatureExtractor,
    side: int | None = None,
    batch_size: int = 32,
) -> Features:
    """Features of the reference images, from ``cache`` where they lie there; made and kept there otherwise.

    Raises:
        ValueError: what lies there came by another protocol or from other images; or an image cannot be read, because
            then the reference would not be the one that others compare with.
    """
    source = images_hash(sources)
    if cache is not None and cache.is_file():
        kept = Features.load(cache)
        found = (kept.extractor, kept.preparation, kept.source)
        wanted = (extractor.version, _preparation(side), source)
        for what, there, here in zip(("extractor", "preparation", "hash of images"), found, wanted, strict=True):
            if there != here:
                raise ValueError(
                    f"{cache} holds reference features of another {what}: {there}, and {here} is asked for. Numbers by both "
                    "are not comparable: choose another file, or remove this one to make it anew."
                )
        return kept
    features, unreadable = extract(sources, extractor, side, batch_size)
    if unreadable:
        raise unreadable_reference(unreadable)
    features = replace(features, source=source)
    if cache is not None:
        features.save(cache)
    return features


def unreadable_reference(why: Mapping[str, str]) -> ValueError:
    name, reason = next(iter(why.items()))
    return ValueError(f"{len(why)} reference images cannot be read, {name} among them ({reason}). Restore them.")


def gather_features(mine: Features) -> Features:
    """The features of all ranks, in order of names; the same on every rank, however the images were divided.

    A collective: all ranks must call it, also those that have no images. An image that several ranks have counts once.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return mine
    parts: list[tuple[tuple[str, ...], Tensor]] = [((), mine.values)] * distributed.get_world_size()
    distributed.all_gather_object(parts, (mine.names, mine.values))
    rows = {name: row for names, values in parts for name, row in zip(names, values, strict=True)}
    order = tuple(sorted(rows))
    values = torch.stack([rows[name] for name in order]) if rows else mine.values
    return Features(values, order, mine.extractor, mine.preparation)


def images_hash(sources: Mapping[str, Path | Image.Image]) -> str:
    """Equal exactly where the images have equal names and contents, in whatever order.

    Raises:
        ValueError: a file is not there.
    """
    digest = sha256()
    for name, source in sorted(sources.items()):
        if isinstance(source, Path):
            try:
                content = source.read_bytes()
            except OSError as error:
                raise unreadable_reference({name: str(error)}) from error
        else:
            content = f"{source.mode} {source.size} ".encode() + source.tobytes()
        digest.update(f"{name} ".encode() + sha256(content).digest())
    return digest.hexdigest()[:16]


def _preparation(side: int | None) -> str:
    return "images as they are" if side is None else f"bicubic to a shorter side of {side}, centre crop"


def _batches(
    sources: Mapping[str, Path | Image.Image], side: int | None, batch_size: int, unreadable: dict[str, str]
) -> Iterator[tuple[list[str], list[Image.Image]]]:
    """Images of one size, at most ``batch_size`` of them."""
    waiting: dict[tuple[int, int], tuple[list[str], list[Image.Image]]] = {}
    for name, source in sources.items():
        try:
            image = _prepared(source, side)
        except UNREADABLE as error:
            unreadable[name] = str(error)
            continue
        names, images = waiting.setdefault(image.size, ([], []))
        names.append(name)
        images.append(image)
        if len(names) == batch_size:
            yield waiting.pop(image.size)
    yield from waiting.values()


def _prepared(source: Path | Image.Image, side: int | None) -> Image.Image:
    if isinstance(source, Path):
        with Image.open(source) as opened:
            image = opened.convert("RGB")
    else:
        image = source.convert("RGB")
    if side is None:
        return image
    scale = side / min(image.size)
    width, height = (max(side, round(length * scale)) for length in image.size)
    left, top = (width - side) // 2, (height - side) // 2
    return image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + side, top + side))
