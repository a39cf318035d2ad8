"""Answer: the image of a request, and what is known of it."""

from __future__ import annotations

import io
import math
from dataclasses import asdict, dataclass
from typing import Any

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from eclipse_pl.demo.request import Request
from eclipse_pl.scorers.scorer import Score


@dataclass(frozen=True)
class Latency:
    """Seconds of each part of the work, for all images that were made together."""

    encoder: float
    prior: float
    """The calls of this request's prior with its settings."""
    decoder: float
    scorers: float
    images: int
    """The number of images that were made together."""


@dataclass(frozen=True)
class Neighbour:
    """A real image that lies near."""

    image: Image.Image
    caption: str
    cosine: float


@dataclass(frozen=True, eq=False)
class Answer:
    """One image."""

    request: Request
    image: Image.Image
    image_embed: Float[Tensor, " dim"]
    """The prior's embedding, or the one between those of two prompts."""
    latency: Latency
    scores: dict[str, Score]
    """By the name of the scorer."""
    neighbours: list[Neighbour]
    """The nearest real images, nearest first; empty where the demo knows none."""
    notes: list[str]
    """What a reader must know, such as that the encoder cut the prompt."""

    @property
    def facts(self) -> dict[str, Any]:
        """Everything but the images, as JSON values."""
        return {
            "request": asdict(self.request),
            "seconds": asdict(self.latency),
            "scores": {name: None if math.isnan(score.value) else score.value for name, score in self.scores.items()},
            "not_scored": {name: score.failure for name, score in self.scores.items() if score.failure},
            "nearest": [{"caption": one.caption, "cosine": one.cosine} for one in self.neighbours],
            "notes": self.notes,
        }


def png_of(image: Image.Image) -> bytes:
    """The content of a PNG file of an image."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
