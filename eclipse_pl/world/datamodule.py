from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.data.manifest import MANIFEST_NAME, Manifest
from eclipse_pl.data.remote_folder import is_url, without_query
from eclipse_pl.data.states import States
from eclipse_pl.embed.embed_shards import embed_shards
from eclipse_pl.open_clip_model import local_dir_tag
from eclipse_pl.raw.find_sources import find_sources
from eclipse_pl.world.encoder import FOLDER, WorldEncoder
from eclipse_pl.world.pairs import write_pairs
from eclipse_pl.world.scenes import COLOURS
from eclipse_pl.world.splits import require_colours


class WorldDataModule(EmbeddingDataModule):
    """Shards of the world. If they are missing, it draws scenes, captions them and encodes both with the world's CLIP.

    Only one of several processes builds them. 20,000 pairs take about a minute.

    Args:
        folder: The folder of the shards. The raw pairs are in ``FOLDER/raw``.
        train_pairs: The number of training scenes. To train on fewer of the same scenes, set ``pairs``.
        val_pairs: The number of validation scenes. Half of them are compositions that are not in the training scenes.
        test_pairs: The number of test scenes, likewise.
        colours: The colours of the scenes, at least four, for another domain; null for all colours.
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
        **options: Any,
    ) -> None:
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
        self.splits = {"train": train_pairs, "val": val_pairs, "test": test_pairs}

    def prepare_data(self) -> None:
        folder = Path(self.folder)
        if (folder / MANIFEST_NAME).is_file():  # written last; the folder of a finished world may be read-only
            self._require_this_world(Manifest.load(folder))
            return
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".building"):
            if not (folder / MANIFEST_NAME).is_file():
                with torch.random.fork_rng():  # the run that builds the world starts from the same weights as the next run
                    self._build(folder)

    def _build(self, folder: Path) -> None:
        raw = folder / "raw"
        tars, where, shards = (shlex.quote(str(path)) for path in (raw / "*.tar", raw, folder))
        write_pairs(raw, self.splits["train"], self.splits["val"], self.splits["test"], colours=self.colours)
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
        sizes = " ".join(f"--{split} {pairs}" for split, pairs in self.splits.items())
        return sizes if self.colours == COLOURS else f"{sizes} --colours {' '.join(self.colours)}"

    def _require_this_world(self, manifest: Manifest) -> None:
        tag = local_dir_tag(FOLDER)
        made = re.search(r"--colours ([\w ]+) &&", manifest.made_by)
        found = (manifest.splits, manifest.space["encoder"], tuple(made[1].split()) if made else COLOURS)
        if found[1] != tag:
            raise ValueError(
                f"{self.folder} holds shards of another CLIP than the world's: {manifest.pairs} pairs of {found[1]}. Choose "
                "another data.folder, or EmbeddingDataModule to train on them."
            )
        if manifest.states != self.states:
            raise ValueError(
                f"{self.folder} stores captions as {manifest.states}, and data.states is {self.states}. Choose another "
                "data.folder, or set data.states to the stored form."
            )
        if found != (self.splits, tag, self.colours):
            raise ValueError(
                f"{self.folder} has another world: {found[0]} of {found[1]} in {', '.join(found[2])}; the config asks "
                f"for {self.splits} of {tag} in {', '.join(self.colours)}. Choose another data.folder, or remove that one to "
                "build it again."
            )
