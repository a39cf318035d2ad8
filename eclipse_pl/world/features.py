from __future__ import annotations

from eclipse_pl.scorers.clip_towers import OpenClip
from eclipse_pl.scorers.feature_extractors import ClipFeatures
from eclipse_pl.world.encoder import FOLDER


class WorldFeatures(ClipFeatures):
    """The features of the world's own CLIP, in which distances between distributions of its images are measured."""

    def __init__(self, device: str = "auto") -> None:
        super().__init__(OpenClip(f"local-dir:{FOLDER}", None, device))
