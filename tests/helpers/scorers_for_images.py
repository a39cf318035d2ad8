"""Scorers and a text-to-image model without weights, for tests of everything around them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image

from eclipse_pl.prompts.prompt import Prompt
from eclipse_pl.scorers.scorer import Score, Scorer
from eclipse_pl.text_to_image.text_to_image import TextToImage


class MeanColour(Scorer):
    """How bright an image is."""

    name = "mean_colour"

    def __init__(self, version: str = "1") -> None:
        self._version = version

    @property
    def version(self) -> str:
        return self._version

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        return [
            Score(float(np.asarray(image).mean() / 255), {"prompt": prompt.text})
            for image, prompt in zip(images, prompts, strict=True)
        ]


class Slow(MeanColour):
    """The same, with time to be killed in between."""

    name = "slow"

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        time.sleep(0.3)
        return super().score(images, prompts)


class Failing(MeanColour):
    """The same, but it fails while there is a file at ``path``."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = Path(path)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        if self.path.exists():
            raise RuntimeError("the scorer failed")
        return super().score(images, prompts)


class Blind(MeanColour):
    """The same, but it scores no image of a prompt with the word ``unseen``."""

    name = "blind"

    def __init__(self, unseen: str) -> None:
        super().__init__()
        self.unseen = unseen

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        scores = super().score(images, prompts)
        return [
            Score.failed("unseen") if self.unseen in one.text else score for one, score in zip(prompts, scores, strict=True)
        ]


class Random(MeanColour):
    """A number drawn for each image and prompt, which says nothing of either."""

    name = "random"

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        drawn = (sha256(f"{prompt.id} {prompt.text}".encode()).digest() for prompt in prompts)
        return [Score(int.from_bytes(digest[:6], "big") / 2**48) for digest in drawn]


class Grey(TextToImage):
    """Generates grey, brighter with the seed."""

    identity = {"text_to_image": "grey"}  # noqa: RUF012

    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Image.Image]:
        return [Image.new("RGB", (4, 4), (seed,) * 3) for seed in seeds]

    def require_ready(self) -> None:
        pass
