"""NetworkScorer: a scorer that is made of networks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack

import torch
from PIL import Image

from eclipse_pl.prompts.prompt import Prompt
from eclipse_pl.scorers.finite import NotANumber
from eclipse_pl.scorers.network import ScorerNetwork
from eclipse_pl.scorers.scorer import Score, Scorer, as_prompt

UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""Errors of Pillow for unreadable images. Pillow reads files late and passes on the errors of its decoders."""


class NetworkScorer(Scorer):
    """Scores batches of readable images. The first use builds the networks.

    A subclass defines which prompts it can score (`missing`) and how it scores a batch (`score_batch`). Scoring runs in
    ``inference_mode`` and outside of a trainer's autocast, so that a score does not depend on the caller.

    Args:
        networks: The networks.
        batch_size: Images scored at a time.
    """

    def __init__(self, networks: Sequence[ScorerNetwork], batch_size: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; at least one image must be scored at a time.")
        self.networks, self.batch_size = list(networks), batch_size

    @abstractmethod
    def score_batch(self, images: list[Image.Image], prompts: list[Prompt]) -> list[Score]:
        """Return one score per image, in order. Images are RGB, and no prompt has anything `missing`.

        Raises:
            NotANumber: The output of a network is not a number, so that nothing can be read in it.
        """

    @property
    def version(self) -> str:
        return ", ".join(network.version for network in self.networks)

    def require_ready(self) -> None:
        for network in self.networks:
            network.require_ready()

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt | str]) -> list[Score]:
        parsed = [as_prompt(prompt, number) for number, prompt in enumerate(prompts)]
        scores: dict[int, Score] = {}
        readable: dict[int, Image.Image] = {}
        for i, (image, prompt) in enumerate(zip(images, parsed, strict=True)):
            if missing := self.missing(prompt):
                scores[i] = Score.failed(f"Prompt {prompt.id} ({prompt.text!r}) has no {missing}, which {self.name} needs.")
                continue
            try:
                readable[i] = image.convert("RGB")
            except UNREADABLE as error:
                scores[i] = Score.unreadable(f"The image of prompt {prompt.id}", error)
        good = list(readable)
        with ExitStack() as contexts:
            for network in self.networks if good else []:
                # load() builds the network before inference mode begins: parameters made inside cannot be used outside
                contexts.enter_context(torch.autocast(network.load().type, enabled=False))
            contexts.enter_context(torch.inference_mode())
            for first in range(0, len(good), self.batch_size):
                rows = good[first : first + self.batch_size]
                scored = self._scored([readable[i] for i in rows], [parsed[i] for i in rows])
                scores.update(zip(rows, scored, strict=True))
        return [scores[i] for i in range(len(images))]

    def _scored(self, images: list[Image.Image], prompts: list[Prompt]) -> list[Score]:
        """Score a batch. Where an output is not a number, score each image alone, because a model may overflow on one only."""
        try:
            return self.score_batch(images, prompts)
        except NotANumber as error:
            if len(images) == 1:
                return [Score.failed(str(error))]
        return [score for image, prompt in zip(images, prompts, strict=True) for score in self._scored([image], [prompt])]

    def close(self) -> None:
        for network in self.networks:
            network.close()
