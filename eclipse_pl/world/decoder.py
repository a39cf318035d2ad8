from __future__ import annotations

from pathlib import Path
from typing import Any

from eclipse_pl.decoders.kandinsky import KandinskyDecoder
from eclipse_pl.decoders.pipeline_decoder import Precision
from eclipse_pl.open_clip_model import local_dir_tag
from eclipse_pl.world.encoder import FOLDER as CLIP

FOLDER = Path(__file__).parent / "models" / "decoder"


class WorldDecoder(KandinskyDecoder):
    """The world's own decoder: KandinskyDecoder with the pipeline in the package (`python -m data_prep world-models`)."""

    def __init__(
        self,
        steps: int = 20,
        guidance: float = 3.0,
        precision: Precision = "float32",
        device: str = "auto",
        batch_size: int = 16,
    ) -> None:
        super().__init__(str(FOLDER), local_dir_tag(CLIP), steps, guidance, "own", None, precision, device, batch_size)

    @property
    def options(self) -> dict[str, Any]:
        """The options without the path of the model on this machine."""
        return super().options | {"model": "world"}
