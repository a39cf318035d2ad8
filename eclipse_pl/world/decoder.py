from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from eclipse_pl.decoders.decoder import Embeds
from eclipse_pl.decoders.kandinsky import KandinskyDecoder
from eclipse_pl.open_clip_model import local_dir_tag
from eclipse_pl.world.encoder import FOLDER as CLIP
from eclipse_pl.world.encoder import WorldEncoder

FOLDER = Path(__file__).parent / "models" / "decoder"


class WorldDecoder(KandinskyDecoder):
    """The world's decoder: KandinskyDecoder on the pipeline in the package (`python -m data_prep world-models`).

    Args:
        steps: Denoising steps.
        guidance: Classifier-free guidance scale. 1 or less turns guidance off and halves the work.
        batch_size: Images at a time, halved where memory runs out. Smaller batches are filled up to it.
        **options: Those of PipelineDecoder.
    """

    def __init__(self, steps: int = 20, guidance: float = 3.0, batch_size: int = 16, **options: Any) -> None:
        tag = local_dir_tag(CLIP)
        super().__init__(str(FOLDER), tag, steps, guidance, "own", None, batch_size=batch_size, **options)

    def decode(self, image_embed: Embeds, *args: Any, **options: Any) -> list[Image.Image]:
        """Decode embeddings of the world's CLIP; see `Decoder.decode`."""
        if self.zero_image is None:
            encoder = WorldEncoder(device="cpu")
            side = encoder.image_size
            self.zero_image = encoder.encode_images(torch.zeros(1, 3, side, side))[0]
        return super().decode(image_embed, *args, **options)

    @property
    def options(self) -> dict[str, Any]:
        """Name the model, instead of its path on this machine."""
        return super().options | {"model": "world"}
