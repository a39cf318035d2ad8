"""Features of images: extracted once, saved with their protocol, gathered over ranks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, distributed

from eclipse_pl.files import file_sha256, write_atomically
from eclipse_pl.scorers.feature_extractors import FeatureExtractor
from eclipse_pl.scorers.network_scorer import UNREADABLE
from eclipse_pl.scorers.scorer import NOT_A_NUMBER


@dataclass(frozen=True, eq=False)
class Features:
    """One row per image, in order of the images' names."""

    values: Float[Tensor, "images dim"]
    names: tuple[str, ...]
    extractor: str
    """Version of the network."""
    preparation: str
    """Scaling and cropping of the images. Features of different extractors or preparations are never compared."""
    source: str = ""
    """Hash of the images of a reference (`images_hash`)."""

    def __len__(self) -> int:
        return len(self.names)

    def save(self, path: Path) -> None:
        from safetensors.torch import save

        protocol = {"names": self.names, "extractor": self.extractor, "preparation": self.preparation, "source": self.source}
        # a single entry, because safetensors writes several entries in random order
        write_atomically(path, save({"features": self.values.contiguous()}, {"protocol": json.dumps(protocol)}))

    @classmethod
    def load(cls, path: Path) -> Features:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), "pt") as file:
                protocol = json.loads((file.metadata() or {})["protocol"])
                names = tuple(protocol.pop("names"))
                return cls(file.get_tensor("features"), names, **protocol)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} holds no features of images ({error}). Remove it; the next run extracts them again."
            ) from error


def extract(
    sources: Mapping[str, Path | Image.Image], extractor: FeatureExtractor, side: int | None = None, batch_size: int = 32
) -> tuple[Features, dict[str, str]]:
    """Return the features of all readable images, and the reason for each other one: unreadable, or features without numbers.

    Args:
        sources: Images by name. Their order does not matter.
        extractor: Network.
        side: Scale images to this shorter side, bicubic, and crop a square from the middle. The default changes nothing.
        batch_size: Images at a time.
    """
    unreadable: dict[str, str] = {}
    rows: dict[str, Tensor] = {}
    with torch.inference_mode(), torch.autocast(extractor.load().type, enabled=False):
        for names, images in _batches(sources, side, batch_size, unreadable):
            for name, row in zip(names, extractor.features(images).float().cpu(), strict=True):
                if row.isfinite().all():
                    rows[name] = row
                else:  # a comparison with NaN is false, so that precision and coverage would be 0
                    unreadable[name] = NOT_A_NUMBER
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
    """Load the features of the reference images from ``cache``, or extract them and save them there.

    Raises:
        ValueError: The cache has another protocol or other images, or an image cannot be read.
    """
    if (kept := kept_features(cache, sources, extractor, side)) is not None:
        return kept
    features, unreadable = extract(sources, extractor, side, batch_size)
    if unreadable:
        raise unreadable_reference(unreadable)
    features = replace(features, source=images_hash(sources))
    if cache is not None:
        features.save(cache)
    return features


def kept_features(
    cache: Path | None,
    sources: Mapping[str, Path | Image.Image],
    extractor: FeatureExtractor,
    side: int | None = None,
) -> Features | None:
    """Load the features of the reference images from ``cache``, or return None where there is no such file.

    Raises:
        ValueError: The cache has another protocol or other images.
    """
    if cache is None or not cache.is_file():
        return None
    kept = Features.load(cache)
    found = (kept.extractor, kept.preparation, kept.source)
    wanted = (extractor.version, _preparation(side), images_hash(sources))
    for part, saved, asked in zip(("extractor", "preparation", "hash of images"), found, wanted, strict=True):
        if saved != asked:
            raise ValueError(
                f"{cache} holds reference features of another {part}: {saved}, and this run needs {asked}. Their scores "
                "are not comparable: choose another file, or remove this one."
            )
    return kept


def unreadable_reference(reasons: Mapping[str, str]) -> ValueError:
    name, reason = next(iter(reasons.items()))
    return ValueError(f"{len(reasons)} reference images cannot be read, {name} among them ({reason}). Restore them.")


def gather_features(mine: Features) -> Features:
    """Return the features of all ranks, in order of names, on every rank.

    All ranks must call it, even those without images. An image that several ranks have counts once.
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
    """Hash the names and contents of images. Their order does not matter.

    Raises:
        ValueError: A file cannot be read.
    """
    digest = sha256()
    for name, source in sorted(sources.items()):
        if isinstance(source, Path):
            try:
                stat = source.stat()
                content = _file_digest(source.resolve(), stat.st_mtime_ns, stat.st_size)
            except OSError as error:
                raise unreadable_reference({name: str(error)}) from error
        else:
            content = sha256(f"{source.mode} {source.size} ".encode() + source.tobytes()).digest()
        digest.update(f"{name} ".encode() + content)
    return digest.hexdigest()[:16]


@cache
def _file_digest(path: Path, _modified: int, _size: int) -> bytes:
    """A cache of reference features is compared with its images before images are generated, and when it is used."""
    return bytes.fromhex(file_sha256(path))


def _preparation(side: int | None) -> str:
    return "images as they are" if side is None else f"bicubic to a shorter side of {side}, centre crop"


def _batches(
    sources: Mapping[str, Path | Image.Image], side: int | None, batch_size: int, unreadable: dict[str, str]
) -> Iterator[tuple[list[str], list[Image.Image]]]:
    """Yield batches of images of one size."""
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
