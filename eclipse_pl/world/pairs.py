"""Raw pairs of the world as webdataset tars in img2dataset's layout: KEY.png, KEY.txt, KEY.json.

Validation and test pairs with a counterpart also have its image, KEY.negative.png. Training pairs have its caption alone, and
only if asked. The JSON has ``key``, ``caption``, ``category``, ``split`` (train, val, test), ``subset`` (seen, unseen,
unsaid), ``scene`` and ``negative_caption`` (or null).

With several captions of a scene ``caption`` and ``negative_caption`` are lists, and KEY.txt is missing. Captions that differ
in their subset, or in whether the counterpart is a hard negative, are in samples of their own: KEY, KEY-1, ...
"""

from __future__ import annotations

import filecmp
import io
import json
import tarfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path

from eclipse_pl.files import atomic_path
from eclipse_pl.world.captions import require_detail
from eclipse_pl.world.drawing import render
from eclipse_pl.world.scenes import COLOURS, Scene
from eclipse_pl.world.splits import SPLITS, ScenePair, scenes_of


def write_pairs(
    out: str | Path,
    train: int = 20_000,
    val: int = 1_000,
    test: int = 1_000,
    shard_pairs: int = 1_000,
    seed: int = 0,
    progress: bool = True,
    colours: Collection[str] = COLOURS,
    detail: float = 1.0,
    captions: int = 1,
    train_negatives: bool = False,
) -> list[Path]:
    """Write ``out/0000.tar`` ... and return their paths. No tar has two splits, and equal arguments give equal bytes.

    ``train``, ``val`` and ``test`` count scenes, each with as many ``captions`` of this ``detail`` (`captions.describe`).
    Scenes and counterparts are those of detail 1. ``train_negatives`` gives training pairs the captions of their counterparts.

    Raises:
        ValueError: A number of pairs or the seed is negative, there is no pair, or ``out`` has tars that are not of this run,
            or cannot be written; the detail is no probability, or there is no caption; the colours have fewer different
            scenes than ``val`` or ``test``.
    """
    from rich.progress import track

    require_detail("detail", detail)
    if captions < 1:
        raise ValueError(f"captions is {captions}; a scene has at least one caption.")
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must be 0 or more.")
    sizes = {"train": train, "val": val, "test": test}
    if min(sizes.values()) < 0 or shard_pairs < 1 or not any(sizes.values()):
        raise ValueError(f"{sizes} pairs, {shard_pairs} per tar, cannot be written: at least one pair, and one per tar.")
    plan = [(split, min(shard_pairs, n - first)) for split, n in sizes.items() for first in range(0, n, shard_pairs)]
    folder = Path(out).expanduser()
    paths = [folder / f"{number:04d}.tar" for number in range(len(plan))]
    if strangers := sorted(set(folder.glob("*.tar")) - set(paths)):
        raise ValueError(
            f"{out} has {strangers[0].name}, which is not of this run. Choose an empty folder, or remove its tars."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{out} cannot be made ({error.strerror}). Choose a folder that can be written.") from error
    scenes: dict[str, Iterable[ScenePair]] = {
        split: scenes_of(split, n, seed, colours, train_negatives) for split, n in sizes.items()
    }
    for split in SPLITS[1:]:  # drawn before the first tar is written, because a few colours may not have so many scenes
        scenes[split] = list(scenes[split])
    pairs = chain.from_iterable(((split, pair) for pair in scenes[split]) for split in sizes)
    numbered = enumerate(track(pairs, "images of the world", total=sum(sizes.values()), disable=not progress))
    for path, (_, size) in zip(paths, plan, strict=True):
        with atomic_path(path) as temporary:
            with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
                for number, (split, pair) in islice(numbered, size):
                    described = [pair.at_detail(detail, caption) for caption in range(captions)]
                    for name, content in _members(f"{number:09d}", split, described):
                        # a header's defaults are the epoch, user 0 and mode 644: the bytes are equal on every machine
                        header = tarfile.TarInfo(name)
                        header.size = len(content)
                        tar.addfile(header, io.BytesIO(content))
            if path.is_file() and not filecmp.cmp(temporary, path, shallow=False):
                raise ValueError(
                    f"{path} is there, and holds other pairs than those that would be written. Choose an empty folder, or "
                    "remove its tars."
                )
    return paths


def _members(key: str, split: str, pairs: Sequence[ScenePair]) -> Iterator[tuple[str, bytes]]:
    """The files of one scene, with one or several captions."""
    samples: dict[tuple[str, bool], list[ScenePair]] = {}
    for pair in pairs:
        samples.setdefault((pair.subset, pair.negative is None), []).append(pair)
    for place, sample in enumerate(samples.values()):
        yield from _sample(f"{key}-{place}" if place else key, split, sample, several=len(pairs) > 1)


def _sample(key: str, split: str, pairs: Sequence[ScenePair], several: bool) -> Iterator[tuple[str, bytes]]:
    scene, negative, subset = pairs[0].scene, pairs[0].negative, pairs[0].subset
    yield f"{key}.png", _png(scene)
    if not several:
        yield f"{key}.txt", pairs[0].caption.encode()
    if negative and split != "train":
        yield f"{key}.negative.png", _png(negative)
    captions = [pair.caption for pair in pairs] if several else pairs[0].caption
    others = [pair.negative_caption for pair in pairs] if several and negative else pairs[0].negative_caption
    facts = {"key": key, "caption": captions, "category": scene.category, "split": split, "subset": subset}
    yield f"{key}.json", json.dumps({**facts, "scene": asdict(scene), "negative_caption": others}).encode()


def _png(scene: Scene) -> bytes:
    buffer = io.BytesIO()
    render(scene).save(buffer, "PNG")
    return buffer.getvalue()
