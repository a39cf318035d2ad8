"""Coco: captions in MSCOCO's JSON, or in that of Karpathy's splits, with images in folders or zip archives."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eclipse_pl.formats.text_file import read_text
from eclipse_pl.raw.listed import FolderFiles, ImageFiles, ListedImage, ZipFiles, cut_in_parts, require_images
from eclipse_pl.raw.source import Listing, Source

SPLITS_OF_KARPATHY = {"train": "train", "restval": "train", "val": "val", "test": "test"}
"""Karpathy's ``restval`` is what MSCOCO calls val and he uses for training."""


@dataclass(frozen=True)
class Coco(Source):
    """MSCOCO: about five captions an image.

    A pair is named by its image's file without the suffix, or by the whole path if another folder has such a file too.

    Args:
        captions: ``captions_train2017.json`` (or another year or split), or Karpathy's ``dataset_coco.json``, which names
            the split of each image.
        images: Folders or zip archives of the images; by default those that stand beside the JSON or its folder under MSCOCO's
            names, such as ``train2017`` or ``train2017.zip``.
        split: The split of all images; null draws splits, or takes Karpathy's.
        shard_images: Images of a shard.
        most_missing: Largest share of images that may be missing. If more are missing, nothing is embedded.
    """

    captions: str
    images: str | list[str] | None = None
    split: Literal["train", "val", "test"] | None = None
    shard_images: int = 10_000
    most_missing: float = 0.0

    def listing(self) -> Listing:
        samples = self._samples()
        if not samples:
            raise ValueError(f"{self.captions} names no images. Its list of images has an entry for each of them.")
        remedy = "Give the folder or the zip archive of the images: --source.images PATH."
        require_images(samples, self.captions, self.most_missing, remedy)
        captions = sum(len(sample.about["captions"]) for sample in samples)
        parts = cut_in_parts(samples, self.captions, Path(self.captions).stem, self.shard_images)
        return Listing(f"MSCOCO: {len(samples):,} images, {captions:,} captions", parts)

    def _samples(self) -> list[ListedImage]:
        content = read_coco(self.captions)
        named = list(_karpathy(content, self.captions) if is_karpathy(content) else _coco(content, self.captions))
        places = self._places({folder for folder, _, _ in named})
        paths = defaultdict[str, set[str]](set)
        for folder, file, _ in named:
            paths[Path(file).stem].add(str(Path(folder, file)))
        samples = []
        for folder, file, about in named:
            if self.split is not None:
                about["split"] = self.split
            files, name = _found(places, folder, file)
            stem = Path(file).stem
            key = stem if len(paths[stem]) == 1 else str(Path(folder, file))
            samples.append(ListedImage(key, name, about, files))
        return samples

    def _places(self, folders: set[str]) -> list[ImageFiles]:
        given = [self.images] if isinstance(self.images, str) else self.images
        if given is None:
            beside = Path(os.path.abspath(self.captions)).parent  # of a bare name, too, there is then a folder above
            names = sorted(folders | {Path(self.captions).stem.rpartition("_")[2]})
            roots = [root / name for root in (beside, beside.parent) for name in ("", *names, "images") if name != "."]
            paths = [path for root in roots for path in (root, root.parent / f"{root.name}.zip")]
            return [_files(path) for path in dict.fromkeys(paths) if path.exists()]
        if missing := [path for path in given if not Path(path).exists()]:
            raise ValueError(f"There is no {missing[0]} (--source.images). It is a folder or a zip archive of images.")
        return [_files(Path(path)) for path in given]


def read_coco(path: str) -> dict[str, Any]:
    """Read the JSON of MSCOCO's captions.

    Raises:
        ValueError: It is missing, or is another JSON.
    """
    try:
        content = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({error}).") from error
    if not (isinstance(content, dict) and isinstance(content.get("images"), list)):
        raise ValueError(
            f"{path} is not MSCOCO's JSON: an object with lists of images and annotations, or Karpathy's, with sentences."
        )
    if not is_karpathy(content) and not isinstance(content.get("annotations"), list):
        raise ValueError(f"{path} has no list of annotations; its entries are {', '.join(map(str, content))}.")
    return content


def is_karpathy(content: dict[str, Any]) -> bool:
    """Return whether the sentences of an image stand in its own entry."""
    return any(isinstance(image, dict) and "sentences" in image for image in content["images"])


def _coco(content: dict[str, Any], path: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the folder, the file and the captions of each image."""
    captions: dict[Any, list[Any]] = {}
    try:
        for annotation in content["annotations"]:
            captions.setdefault(annotation["image_id"], []).append(annotation["caption"])
        named = [(image["id"], image["file_name"]) for image in content["images"]]
        numbers = {number for number, _ in named}
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not MSCOCO's JSON of captions: an image or annotation lacks {error}. captions_*.json holds the "
            "captions; instances_*.json holds boxes."
        ) from error
    if strange := [file for _, file in named if not isinstance(file, str)]:
        raise ValueError(f"{path} is not MSCOCO's JSON of captions: an image has the file_name {strange[0]!r}, and no text.")
    if lost := captions.keys() - numbers:
        raise ValueError(f"{path} has captions of {len(lost)} images that it does not name, first {min(map(str, lost))}.")
    for number, file in named:
        yield "", file, {"captions": captions.get(number, [])}


def _karpathy(content: dict[str, Any], path: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for number, image in enumerate(content["images"]):
        if problem := _problem(image):
            raise ValueError(
                f"{path} is not Karpathy's JSON: images[{number}] {problem}. Each image has a filename and sentences, such as "
                '{"filename": "1.jpg", "sentences": [{"raw": "a cat"}]}, and may have filepath and split.'
            )
        split = image.get("split")
        about = {
            "captions": [sentence.get("raw") for sentence in image["sentences"]],
            "split": SPLITS_OF_KARPATHY.get(split, split),
        }
        yield image.get("filepath", ""), image["filename"], about


def _problem(image: Any) -> str:
    """What an entry of Karpathy's JSON lacks; "" of a whole one."""
    if not isinstance(image, dict):
        return f"is {image!r:.60}, and no object"
    if lacking := next((name for name in ("filename", "sentences") if name not in image), ""):
        return f"lacks {lacking!r}"
    sentences = image["sentences"]
    if not isinstance(sentences, list) or not all(isinstance(sentence, dict) for sentence in sentences):
        return f"has as sentences {sentences!r:.60}, and no list of objects"
    texts = {"filename": image["filename"], "filepath": image.get("filepath", ""), "split": image.get("split") or ""}
    strange = next((name for name, text in texts.items() if not isinstance(text, str)), "")
    return f"has as {strange} {texts[strange]!r:.60}, and no text" if strange else ""


def _files(path: Path) -> ImageFiles:
    return FolderFiles(path) if path.is_dir() else ZipFiles(path)


def _found(places: list[ImageFiles], folder: str, file: str) -> tuple[ImageFiles, str]:
    """The place that holds a file, and the file's name there. The first place stands for a missing file."""
    for files in places:
        inside = files.path.stem if isinstance(files, ZipFiles) else ""
        for name in dict.fromkeys([file, f"{folder}/{file}", f"{inside}/{file}"]):
            if files.stamp(name) != "missing":
                return files, name
    return (places[0] if places else FolderFiles(Path())), file
