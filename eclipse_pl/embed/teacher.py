"""Teacher: a prior whose samples become training data, and the noise of each of its samples."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eclipse_pl.data.chunk import content_number, without_direction
from eclipse_pl.data.manifest import SkippedPair
from eclipse_pl.embedding import TextCondition
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.priors.guided import GuidedPrior
from eclipse_pl.priors.prior import Prior
from eclipse_pl.raw.pairs import normal_caption
from eclipse_pl.raw.reasons import NOT_FINITE, VANISHES, skipped

CHECKED_WITH = "an image"
"""The caption by which a deterministic prior is found."""


class Caption(NamedTuple):
    """A caption with the key that it has in its file."""

    key: str
    text: str


class SampledPair(NamedTuple):
    """A caption with one of its samples, in float16."""

    key: str
    caption: str
    image: np.ndarray
    text: np.ndarray
    states: np.ndarray


@dataclass(eq=False)
class SampledBatch:
    """Pairs in the order of their captions. ``cut`` counts those whose caption was longer than the context."""

    pairs: list[SampledPair]
    skipped: list[SkippedPair]
    cut: int


@dataclass(frozen=True, eq=False)
class Teacher:
    """The prior whose samples are stored, its encoder, and how it samples.

    Args:
        prior: On the device where it samples.
        encoder: The CLIP of the prior.
        samples: Number of samples a caption.
        seed: Seed of the noise.
        batch_size: Samples computed at a time.
    """

    prior: Prior
    encoder: Encoder
    samples: int = 1
    seed: int = 0
    batch_size: int = 64

    def __post_init__(self) -> None:
        for option, value in (("samples", self.samples), ("batch_size", self.batch_size)):
            if value < 1:
                raise ValueError(f"{option} must be at least 1, got {value}.")
        self.encoder.require_space(self.prior.space, "the prior")
        if self.samples > 1 and self._is_deterministic():
            raise ValueError(
                f"--samples is {self.samples}, and this {type(self.prior).__name__} gives a caption one embedding, whatever "
                "the noise. Leave --samples out, or use a prior that samples, such as a DiffusionPrior."
            )

    @property
    def sampler(self) -> str:
        """The prior and its options of sampling, in words: the manifest keeps them."""
        name = type(self.prior).__name__
        if not isinstance(self.prior, GuidedPrior):
            return name
        options = self.prior.sampling.items()
        said = [f"{option} {value if isinstance(value, str) else format(value, 'g')}" for option, value in options]
        return ", ".join([name, *said])

    def batches(self, captions: Sequence[Caption]) -> Iterator[SampledBatch]:
        """Yield the pairs of all captions in order, some captions at a time, each with all of its samples."""
        at_once = max(1, self.batch_size // self.samples)
        for first in range(0, len(captions), at_once):
            yield self._batch(captions[first : first + at_once])

    @torch.inference_mode()
    def _batch(self, captions: Sequence[Caption]) -> SampledBatch:
        tokens = self.encoder.tokenize([caption.text for caption in captions])
        text = self.encoder.encode_tokens(tokens)
        rows = [(row, number) for row in range(len(captions)) for number in range(self.samples)]
        parts = []
        for first in range(0, len(rows), self.batch_size):
            some = rows[first : first + self.batch_size]
            noise = [noise_of(captions[row].text, number, self.seed) for row, number in some]
            parts.append(self._sample(text.select([row for row, _ in some]), noise))
        image, pooled = torch.cat(parts), text.text_embed.float().cpu()
        # copies of the states: views would keep the batch in memory
        states = [part.clone() for part in text.text_states.half().cpu().split(text.lengths.tolist())]
        stored_image, stored_text = image.half(), pooled.half()  # numbers beyond float16 become infinite
        finite_text = [bool(stored_text[row].isfinite().all() and states[row].isfinite().all()) for row in range(len(states))]
        no_image, no_text = without_direction(image.numpy()), without_direction(pooled.numpy())
        batch = SampledBatch([], [], 0)
        for place, (row, number) in enumerate(rows):
            key = f"{captions[row].key}_{number}"
            if not (finite_text[row] and stored_image[place].isfinite().all()):
                batch.skipped.append(skipped(key, NOT_FINITE))
            elif no_text[row] or no_image[place]:
                batch.skipped.append(skipped(key, VANISHES))
            else:
                arrays = stored_image[place].numpy(), stored_text[row].numpy(), states[row].numpy()
                batch.pairs.append(SampledPair(key, captions[row].text, *arrays))
                batch.cut += bool(tokens.cut[row])
        return batch

    def _sample(self, text: TextCondition, noise: list[torch.Generator]) -> Float[Tensor, "samples dim"]:
        place = next((tensor.device for tensor in self.prior.state_dict().values()), torch.device("cpu"))
        return self.prior.sample(text.to(place), noise).float().cpu()

    @torch.inference_mode()
    def _is_deterministic(self) -> bool:
        text = self.encoder([CHECKED_WITH]).select([0, 0])
        one, other = self._sample(text, [noise_of(CHECKED_WITH, number, 0) for number in range(2)])
        return bool(torch.equal(one, other))


def noise_of(caption: str, number: int, seed: int) -> torch.Generator:
    """The generator of the noise of a caption's sample: `Prior.sample` with it gives the stored embedding.

    Captions that differ in case or blanks alone have the same noise. torch uses 32 bits of the number.
    """
    return torch.Generator().manual_seed(content_number(json.dumps([seed, number, normal_caption(caption)]).encode()))
