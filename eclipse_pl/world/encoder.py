from __future__ import annotations

from pathlib import Path
from typing import Literal

from eclipse_pl.encoders.openclip import OpenClipEncoder

FOLDER = Path(__file__).parent / "models" / "clip"


class WorldEncoder(OpenClipEncoder):
    """The world's own CLIP: OpenClipEncoder with the model in the package (`python -m data_prep world-models`)."""

    def __init__(self, precision: Literal["float32", "bfloat16", "float16"] = "float32", device: str = "auto") -> None:
        super().__init__(f"local-dir:{FOLDER}", None, precision, device, name="world")
