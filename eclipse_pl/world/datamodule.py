from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Float

from eclipse_pl.data.chunk import Chunk
from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.data.manifest import MANIFEST_NAME
from eclipse_pl.data.remote_folder import is_url, without_query
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.data.states import States
from eclipse_pl.embed.embed_shards import embed_shards
from eclipse_pl.open_clip_model import local_dir_tag
from eclipse_pl.raw.find_sources import find_sources
from eclipse_pl.world.captions import require_detail
from eclipse_pl.world.encoder import FOLDER, WorldEncoder
from eclipse_pl.world.pairs import write_pairs
from eclipse_pl.world.redrawing import Redrawing
from eclipse_pl.world.redrawn_images import redrawn_embeds
from eclipse_pl.world.scenes import COLOURS
from eclipse_pl.world.splits import require_colours, scenes_of

COMPARED = 64
"""The scenes of each split whose captions show whether a folder has the world that the config asks for."""


class WorldDataModule(EmbeddingDataModule):
    """Shards of the world. If they are missing, it draws scenes, captions them and encodes both with the world's CLIP.

    Only one of several processes builds them. 20,000 pairs take about a minute.

    Args:
        folder: The folder of the shards. The raw pairs are in ``FOLDER/raw``.
        train_pairs: The number of training scenes. To train on fewer of the same scenes, set ``pairs``.
        val_pairs: The number of validation scenes. Half of them are compositions that are not in the training scenes.
        test_pairs: The number of test scenes, likewise.
        colours: The colours of the scenes, at least four, for another domain; null for all colours.
        detail: The probability with which a caption keeps each object after the first, each size, texture and colour, and the
            relation. 1 for full captions. Images, splits and hard negatives are the same for all; a counterpart that a vague
            caption describes too is no hard negative. Of the compositions that training does not show, the subset
            ``unseen`` has those that the caption names, ``unsaid`` the others.
        captions_per_scene: The captions of each scene. They share the scene's image.
        train_negatives: Whether training captions have hard negatives too: captions with two attributes swapped, for the
            prior's ``hard_negatives``. They name no composition that training does not show.
        states: How the captions are stored, as in `data_prep embed --states`. With "tokens" the encoder is the world's.
        **options: The options of EmbeddingDataModule.
    """

    def __init__(
        self,
        folder: str = "data/world",
        train_pairs: int = 20_000,
        val_pairs: int = 1000,
        test_pairs: int = 1000,
        colours: list[str] | None = None,
        states: States = "float16",
        detail: float = 1.0,
        captions_per_scene: int = 1,
        train_negatives: bool = False,
        **options: Any,
    ) -> None:
        require_detail("data.detail", detail)
        if captions_per_scene < 1:
            raise ValueError(f"data.captions_per_scene is {captions_per_scene}; a scene has at least one caption.")
        if states == "tokens" and options.get("encoder") is None:
            options["encoder"] = WorldEncoder()
        super().__init__(folder, **options)
        if is_url(folder):
            raise ValueError(
                f"data.folder is {without_query(folder)}, but WorldDataModule makes its shards, in a local folder. Use "
                "EmbeddingDataModule to train on shards behind a URL."
            )
        self.colours = COLOURS if colours is None else tuple(colours)
        require_colours(self.colours)
        self.states = states
        self.detail, self.captions_per_scene, self.train_negatives = float(detail), captions_per_scene, train_negatives
        self.scenes = {"train": train_pairs, "val": val_pairs, "test": test_pairs}

    def prepare_data(self) -> None:
        folder = Path(self.folder)
        if (folder / MANIFEST_NAME).is_file():  # written last; the folder of a finished world may be read-only
            self._require_this_world(ShardSet(folder))
            return
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".building"):
            if (folder / MANIFEST_NAME).is_file():  # of another process, which may have been asked for another world
                self._require_this_world(ShardSet(folder))
            else:
                with torch.random.fork_rng():  # the run that builds the world starts from the same weights as the next run
                    self._build(folder)

    def redrawn(self, captions: Sequence[str], split: str, count: int) -> Float[np.ndarray, "captions count dim"]:
        """Image embeddings of ``count`` scenes that each caption describes, as the world draws them: see `Redrawing`."""
        return redrawn_embeds(Redrawing(split, self.detail, self.colours), captions, count)

    def _build(self, folder: Path) -> None:
        raw = folder / "raw"
        tars, where, shards = (shlex.quote(str(path)) for path in (raw / "*.tar", raw, folder))
        sizes = self.scenes["train"], self.scenes["val"], self.scenes["test"]
        write_pairs(
            raw,
            *sizes,
            colours=self.colours,
            detail=self.detail,
            captions=self.captions_per_scene,
            train_negatives=self.train_negatives,
        )
        embed_shards(
            sources=find_sources(sorted(str(path) for path in raw.glob("*.tar"))),
            encoder=WorldEncoder(),
            out=folder,
            made_by=f"python -m data_prep world --out {where} {self._options} && "
            f"python -m data_prep embed --source {tars} --encoder eclipse_pl.world.encoder.WorldEncoder --out {shards}"
            + ("" if self.states == "float16" else f" --states {self.states}"),
            states=self.states,
        )

    @property
    def _options(self) -> str:
        """The options of `data_prep world` that make this world."""
        options = [f"--{split} {scenes}" for split, scenes in self.scenes.items()]
        if self.colours != COLOURS:
            options.append(f"--colours {' '.join(self.colours)}")
        if self.detail != 1:
            options.append(f"--detail {self.detail}")
        if self.captions_per_scene != 1:
            options.append(f"--captions {self.captions_per_scene}")
        if self.train_negatives:
            options.append("--train-negatives")
        return " ".join(options)

    def _require_this_world(self, shards: ShardSet) -> None:
        manifest = shards.manifest
        if manifest.space["encoder"] != local_dir_tag(FOLDER):
            raise ValueError(
                f"{self.folder} holds shards of another CLIP than the world's: {manifest.pairs} pairs of "
                f"{manifest.space['encoder']}. Choose another data.folder, or EmbeddingDataModule to train on them."
            )
        if manifest.states != self.states:
            raise ValueError(
                f"{self.folder} stores captions as {manifest.states}, and data.states is {self.states}. Choose another "
                "data.folder, or set data.states to the stored form."
            )
        if difference := self._difference(shards):
            raise ValueError(
                f"{self.folder} has another world: {difference}. It was made by `{manifest.made_by}`; the config asks for "
                f"`python -m data_prep world {self._options}`. Choose another data.folder, or remove that one to build it "
                "again."
            )

    def _difference(self, shards: ShardSet) -> str:
        """What the shards have and the config does not ask for; "" if they have the same world.

        The captions themselves are compared: the manifest's command may be that of a repair, which names no detail.
        """
        pairs = {split: scenes * self.captions_per_scene for split, scenes in self.scenes.items() if scenes}
        if shards.manifest.splits != pairs:
            return f"{shards.manifest.splits} pairs, and not {pairs}"
        for split in pairs:
            chunk = shards.read_chunk(shards.records(split)[0], with_states=False)
            drawn = scenes_of(split, self.scenes[split], colours=self.colours, train_negatives=self.train_negatives)
            whole = len(chunk) // self.captions_per_scene  # a record may end within a scene
            for found, scene in zip(_captions_of_scenes(chunk, split), islice(drawn, min(COMPARED, whole)), strict=False):
                described = [scene.at_detail(self.detail, number) for number in range(self.captions_per_scene)]
                asked = sorted(_caption(pair.caption, split, pair.negative_caption is not None) for pair in described)
                if found != asked:
                    return f"a {split} scene has the captions {found}, and not {asked}"
        return ""


def _captions_of_scenes(chunk: Chunk, split: str) -> list[list[str]]:
    """The captions of each scene of a record."""
    negatives = np.full(len(chunk), np.nan) if chunk.negative_text_embed is None else chunk.negative_text_embed[:, 0]
    scenes: dict[str, list[str]] = {}
    for key, caption, negative in zip(chunk.keys, chunk.captions, np.isfinite(negatives), strict=True):
        number = re.split("[-#]", key)[0]  # captions of one scene may be samples of their own: 000000007, 000000007-1, ...
        scenes.setdefault(number, []).append(_caption(caption, split, bool(negative)))
    return [sorted(captions) for captions in scenes.values()]


def _caption(caption: str, split: str, negative: bool) -> str:
    """A caption, with a mark if it has a hard negative for training."""
    return f"{caption} (with a hard negative)" if negative and split == "train" else caption
