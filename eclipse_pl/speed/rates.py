"""Rates: the pairs per second of embedding and of training on one machine, measured in seconds or read from a file."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from eclipse_pl.device import describe_machine
from eclipse_pl.embedding import EmbeddingBatch
from eclipse_pl.files import write_json
from eclipse_pl.priors.eclipse import EclipsePrior
from eclipse_pl.raw.image import AS_SHOWN
from eclipse_pl.speed.inputs import draw_lengths, mean_length, random_space, random_text, smooth_image
from eclipse_pl.speed.shallow import ShallowEncoder
from eclipse_pl.speed.timing import in_turns, training_step

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Rates:
    """Seconds per pair of one CLIP and of ECLIPSE's prior of 33 million parameters in its space."""

    encoder: str
    precision: str
    tokens: float
    """Tokens a caption, on average, start and end included."""
    image: float
    """Seconds of the image tower."""
    caption: float
    """Seconds of the text tower."""
    decoding: float
    """Seconds in which one process decodes a JPEG of 256 pixels and transforms it."""
    training: float
    """Seconds of a training step per pair, with token states."""
    training_pooled: float
    """The same without token states."""
    machine: dict[str, str | int]

    def embedding(self, workers: int) -> float:
        """Seconds per pair of ``embed`` with this number of ``workers``: the slower of encoding and decoding."""
        return max(self.image + self.caption, self.decoding / workers)

    def save(self, path: Path) -> None:
        """Write the figures as JSON."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Rates:
        """Read the figures.

        Raises:
            ValueError: The file is missing, or `save` did not write it.
        """
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(
                f"{path} is no file of figures ({reason}). `python -m data_prep plan ... --json FILE` writes one."
            ) from error


def measure(encoder: str, precision: Precision, tokens: float | None, device: torch.device) -> Rates:
    """Measure the figures with random inputs and untrained weights.

    Args:
        encoder: Name of an open_clip model, or ``local-dir:/folder``.
        precision: Precision of the encoder.
        tokens: Tokens of each caption; None draws the lengths of MSCOCO's.
        device: Where encoder and prior compute.
    """
    images, captions = (4, 32) if device.type == "cpu" else (64, 256)
    clip = ShallowEncoder(encoder, precision, str(device))
    drawn = draw_lengths(captions) if tokens is None else torch.full((captions,), round(tokens))
    lengths = drawn.clamp(max=clip.context_length)
    seconds = {
        "image": clip.image_seconds(images),
        "caption": clip.caption_seconds(lengths),
        "decoding": decoding_seconds(clip),
    }
    dim, width = clip.dim, clip.text_width
    del clip
    return Rates(
        encoder=encoder,
        precision=precision,
        tokens=mean_length() if tokens is None else tokens,
        **seconds,
        training=training_seconds(dim, width, lengths, device),
        training_pooled=training_seconds(dim, width, torch.zeros_like(lengths), device),
        machine=describe_machine(device),
    )


def training_seconds(dim: int, width: int, lengths: Int[Tensor, " captions"], device: torch.device) -> float:
    """Seconds per pair of a training step of `EclipsePrior`: in bfloat16 by autocast on a GPU, as the experiments train."""
    space = random_space(dim, width)
    prior, count = EclipsePrior(space).to(device).train(), len(lengths)
    batch = EmbeddingBatch(random_text(dim, lengths, width), torch.randn(count, dim), torch.arange(count)).to(device)
    step = training_step(prior, lambda: prior.losses(batch)["total"])
    return in_turns([step], device, repetitions=2)[0] / count


def decoding_seconds(clip: ShallowEncoder, images: int = 16) -> float:
    """Seconds per image in which one process decodes a JPEG of 256 pixels and transforms it for the image tower."""
    content = io.BytesIO()
    smooth_image(256, 0).save(content, "JPEG", quality=95)

    def decode() -> None:
        for _ in range(images):
            clip.image_transform(AS_SHOWN(content.getvalue()))

    return in_turns([decode], torch.device("cpu"))[0] / images
