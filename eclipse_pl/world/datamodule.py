from __future__ import annotations

import fcntl
import shlex
from pathlib import Path
from typing import Any

from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.data.manifest import MANIFEST_NAME, Manifest
from eclipse_pl.embed import embed_shards
from eclipse_pl.encoders.openclip import local_dir_tag
from eclipse_pl.world.encoder import FOLDER, WorldEncoder
from eclipse_pl.world.pairs import write_pairs


class WorldDataModule(EmbeddingDataModule):
    """Shards of the world, built where they are missing: scenes are drawn, captioned, and encoded by the world's CLIP.

    Building is done once, however many processes start together, and takes about a minute for 20,000 pairs.

    Args:
        folder: Where the shards lie, or will; the raw pairs lie in ``FOLDER/raw``.
        train_pairs: Scenes to train on; to train on fewer of the same scenes, set ``pairs``.
        val_pairs: Scenes to validate on, half of them compositions that training never shows.
        test_pairs: Scenes to test on, likewise.
        **options: Those of EmbeddingDataModule.
    """

    def __init__(
        self,
        folder: str = "data/world",
        train_pairs: int = 20_000,
        val_pairs: int = 1000,
        test_pairs: int = 1000,
        **options: Any,
    ) -> None:
        super().__init__(folder, **options)
        self.splits = {"train": train_pairs, "val": val_pairs, "test": test_pairs}

    def prepare_data(self) -> None:
        folder = Path(self.folder)
        if (folder / MANIFEST_NAME).is_file():  # written last; a finished world may lie where nothing can be written
            self._require_this_world(Manifest.load(folder))
            return
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / ".building", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / MANIFEST_NAME).is_file():
                self._build(folder)

    def _build(self, folder: Path) -> None:
        raw = folder / "raw"
        tars, where, shards = (shlex.quote(str(path)) for path in (raw / "*.tar", raw, folder))
        sizes = " ".join(f"--{split} {pairs}" for split, pairs in self.splits.items())
        write_pairs(raw, self.splits["train"], self.splits["val"], self.splits["test"])
        embed_shards(
            sources=sorted(str(path) for path in raw.glob("*.tar")),
            encoder=WorldEncoder(),
            out=folder,
            made_by=f"python -m data_prep world --out {where} {sizes} && "
            f"python -m data_prep embed --source {tars} --encoder eclipse_pl.world.encoder.WorldEncoder --out {shards}",
        )

    def _require_this_world(self, manifest: Manifest) -> None:
        tag = local_dir_tag(FOLDER)
        if manifest.splits != self.splits or manifest.space["encoder"] != tag:
            raise ValueError(
                f"{self.folder} holds another world: {manifest.splits} of {manifest.space['encoder']}, and the config asks "
                f"for {self.splits} of {tag}. Choose another data.folder, or remove that one to build it anew."
            )
