from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.data.manifest import MANIFEST_NAME, Manifest
from eclipse_pl.embed.embed_shards import embed_shards
from eclipse_pl.open_clip_model import local_dir_tag
from eclipse_pl.world.encoder import FOLDER, WorldEncoder
from eclipse_pl.world.pairs import write_pairs
from eclipse_pl.world.scenes import COLOURS
from eclipse_pl.world.splits import require_colours


class WorldDataModule(EmbeddingDataModule):
    """Shards of the world, built where they are missing: scenes are drawn, captioned, and encoded by the world's CLIP.

    Building is done once, however many processes start together, and takes about a minute for 20,000 pairs.

    Args:
        folder: Where the shards lie, or will; the raw pairs lie in ``FOLDER/raw``.
        train_pairs: Scenes to train on; to train on fewer of the same scenes, set ``pairs``.
        val_pairs: Scenes to validate on, half of them compositions that training never shows.
        test_pairs: Scenes to test on, likewise.
        colours: Only scenes of these colours, four at the least, for a domain of its own; null is all of them.
        **options: Those of EmbeddingDataModule.
    """

    def __init__(
        self,
        folder: str = "data/world",
        train_pairs: int = 20_000,
        val_pairs: int = 1000,
        test_pairs: int = 1000,
        colours: list[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(folder, **options)
        self.colours = COLOURS if colours is None else tuple(colours)
        require_colours(self.colours)
        self.splits = {"train": train_pairs, "val": val_pairs, "test": test_pairs}

    def prepare_data(self) -> None:
        folder = Path(self.folder)
        if (folder / MANIFEST_NAME).is_file():  # written last; a finished world may lie where nothing can be written
            self._require_this_world(Manifest.load(folder))
            return
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".building"):
            if not (folder / MANIFEST_NAME).is_file():
                with torch.random.fork_rng():  # or the run that builds the world would begin with other weights than the next
                    self._build(folder)

    def _build(self, folder: Path) -> None:
        raw = folder / "raw"
        tars, where, shards = (shlex.quote(str(path)) for path in (raw / "*.tar", raw, folder))
        write_pairs(raw, self.splits["train"], self.splits["val"], self.splits["test"], colours=self.colours)
        embed_shards(
            sources=sorted(str(path) for path in raw.glob("*.tar")),
            encoder=WorldEncoder(),
            out=folder,
            made_by=f"python -m data_prep world --out {where} {self._options} && "
            f"python -m data_prep embed --source {tars} --encoder eclipse_pl.world.encoder.WorldEncoder --out {shards}",
        )

    @property
    def _options(self) -> str:
        """What `data_prep world` is told: which world this is."""
        sizes = " ".join(f"--{split} {pairs}" for split, pairs in self.splits.items())
        return sizes if self.colours == COLOURS else f"{sizes} --colours {' '.join(self.colours)}"

    def _require_this_world(self, manifest: Manifest) -> None:
        tag = local_dir_tag(FOLDER)
        made = re.search(r"--colours ([\w ]+) &&", manifest.made_by)
        found = (manifest.splits, manifest.space["encoder"], tuple(made[1].split()) if made else COLOURS)
        if found != (self.splits, tag, self.colours):
            raise ValueError(
                f"{self.folder} holds another world: {found[0]} of {found[1]} in {', '.join(found[2])}; and the config asks "
                f"for {self.splits} of {tag} in {', '.join(self.colours)}. Choose another data.folder, or remove that one to "
                "build it anew."
            )
