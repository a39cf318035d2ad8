"""DemoModel: from requests to images, with one or two priors of one space, and the time that each part takes."""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import NamedTuple

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from eclipse_pl.decoders.decoder import Decoder
from eclipse_pl.demo.answer import Answer, Latency
from eclipse_pl.demo.real_images import RealImages
from eclipse_pl.demo.request import Request
from eclipse_pl.embedding import TextCondition
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.priors.guided import GuidedPrior
from eclipse_pl.priors.prior import Prior
from eclipse_pl.scorers.scorer import Score, Scorer

KEPT_TEXTS = 256
"""Encoded texts that are kept: somebody who moves a slider or tries seeds asks for the same ones again."""


class Sampling(NamedTuple):
    """A prior with the settings of its sampler. Requests with equal ones share its calls."""

    prior: str
    steps: int | None
    guidance: float | None


class Wanted(NamedTuple):
    """An embedding that requests need."""

    sampling: Sampling
    text: str
    seed: int


class DemoModel:
    """Answers requests, those of one call together. Threads call it one after another; see `Batcher`.

    An image depends on its own request alone, but for rounding: sums in a batch of another size differ in their last digits.

    Args:
        priors: One or two priors of one space, by name, on the device that they work on.
        encoder: The CLIP of their space.
        decoder: A decoder of their space.
        scorers: Those that score every image.
        real: Real images, of which the nearest are shown; None shows none.
        neighbours: The number of real images that an answer shows.

    Raises:
        ValueError: The parts belong to different spaces, or there are more than two priors.
    """

    def __init__(
        self,
        priors: Mapping[str, Prior],
        encoder: Encoder,
        decoder: Decoder,
        scorers: Sequence[Scorer] = (),
        real: RealImages | None = None,
        neighbours: int = 6,
    ) -> None:
        if not 1 <= len(priors) <= 2:
            raise ValueError(f"There are {len(priors)} priors ({', '.join(priors)}); the demo shows one, or two side by side.")
        first, *others = priors.items()
        for name, prior in others:
            first[1].space.require_same(prior.space, f"The prior {first[0]}", f"the prior {name}")
        self.space = first[1].space
        encoder.require_space(self.space, "The prior")
        decoder.require_space(self.space, "the prior")
        decoder.fills_batches = False  # somebody waits for a single image
        self.priors, self.encoder, self.decoder, self.scorers = dict(priors), encoder, decoder, list(scorers)
        self.real, self.neighbours = real, neighbours
        self.own = {name: sampling_of(name, prior) for name, prior in priors.items()}
        """The settings that each prior was made with; None where it has no such setting."""
        self._texts: OrderedDict[str, tuple[TextCondition, bool]] = OrderedDict()

    def warm_up(self) -> None:
        """Make one image, so that nobody waits for weights that are read at first use, and their errors show at once."""
        self.generate([Request("an image", next(iter(self.priors)))])

    def require(self, request: Request) -> None:
        """Check a request.

        Raises:
            ValueError: One sentence on what is wrong.
        """
        request.require_valid()
        if request.prior not in self.priors:
            raise ValueError(f"There is no prior {request.prior!r}; there is {' and '.join(self.priors)}.")
        if request.negative_prompt.strip():
            self.decoder.require_negative()
        kind = type(self.priors[request.prior]).__name__
        if (request.steps, request.guidance) != (None, None) and self.own[request.prior].steps is None:
            raise ValueError(f"{request.prior} is a {kind}, which has neither steps nor guidance: leave both out.")
        self._with_settings(self._sampling(request))

    def describe(self, request: Request) -> str:
        """What the prior of a request is, and how often the request calls its network."""
        prior = self._with_settings(self._sampling(request))
        passes = prior.forward_passes
        return type(prior).__name__ + ("" if passes is None else f", {passes} network pass{'es' * (passes != 1)} an image")

    @torch.no_grad()
    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer all requests together.

        Raises:
            ValueError: One of them is not valid; see `require`.
        """
        for request in requests:
            self.require(request)
        begun = perf_counter()
        wanted = [self._wanted(request) for request in requests]
        needed = list(dict.fromkeys(one for of_request in wanted for one in of_request.values()))
        known = {text: self._encode(text) for text in dict.fromkeys(one.text for one in needed)}
        encoded = perf_counter()
        embeds, prior_seconds = self._predict(needed, {text: condition for text, (condition, _) in known.items()})
        mixed, negatives = [], []
        for request, of_request in zip(requests, wanted, strict=True):
            parts = {name: embeds[one] for name, one in of_request.items()}
            between = "second prompt" in parts
            mixed.append(between_of(parts["prompt"], parts["second prompt"], request.mix) if between else parts["prompt"])
            negatives.append(parts.get("negative prompt"))
        decoding = perf_counter()
        images = self._decode(requests, mixed, negatives)
        decoded = perf_counter()
        scores = [self._score(request, image) for request, image in zip(requests, images, strict=True)]
        scored = perf_counter()
        count = len(requests)
        neighbours = [[] for _ in requests] if self.real is None else self.real.nearest(torch.stack(mixed), self.neighbours)
        return [
            Answer(
                request,
                image,
                embed,
                Latency(encoded - begun, prior_seconds[self._sampling(request)], decoded - decoding, scored - decoded, count),
                score,
                near,
                [self._cut(name) for name, one in of_request.items() if known[one.text][1]],
            )
            for request, of_request, image, embed, score, near in zip(
                requests, wanted, images, mixed, scores, neighbours, strict=True
            )
        ]

    def _sampling(self, request: Request) -> Sampling:
        own = self.own[request.prior]
        steps = own.steps if request.steps is None else request.steps
        return Sampling(request.prior, steps, own.guidance if request.guidance is None else request.guidance)

    def _wanted(self, request: Request) -> dict[str, Wanted]:
        """The embeddings that a request needs, by the name of their text. All have the request's seed."""
        needed = {"prompt": True, "second prompt": request.mix > 0, "negative prompt": bool(request.negative_prompt.strip())}
        sampling = self._sampling(request)
        return {name: Wanted(sampling, text, request.seed) for name, text in request.texts.items() if needed[name]}

    def _encode(self, text: str) -> tuple[TextCondition, bool]:
        """An encoded text, on the CPU, and whether it was cut. One at a time: its last digits depend on no other text."""
        if text not in self._texts:
            tokens = self.encoder.tokenize([text])
            self._texts[text] = self.encoder.encode_tokens(tokens).to("cpu"), bool(tokens.cut[0])
            if len(self._texts) > KEPT_TEXTS:
                self._texts.popitem(last=False)
        self._texts.move_to_end(text)
        return self._texts[text]

    def _with_settings(self, sampling: Sampling) -> Prior:
        """The prior with these settings: a copy that shares its weights.

        Raises:
            ValueError: The prior cannot take them.
        """
        prior = self.priors[sampling.prior]
        if not isinstance(prior, GuidedPrior):
            return prior
        changed = copy.copy(prior)
        changed.sample_with(sampling.steps, sampling.guidance)
        return changed

    def _predict(
        self, needed: Sequence[Wanted], texts: Mapping[str, TextCondition]
    ) -> tuple[dict[Wanted, Float[Tensor, " dim"]], dict[Sampling, float]]:
        """The embeddings on the CPU, and the seconds of each prior's call."""
        groups: dict[Sampling, list[Wanted]] = defaultdict(list)
        for one in needed:
            groups[one.sampling].append(one)
        embeds: dict[Wanted, Tensor] = {}
        seconds: dict[Sampling, float] = {}
        for sampling, rows in groups.items():
            begun = perf_counter()
            prior = self._with_settings(sampling)
            device = next((weight.device for weight in prior.state_dict().values()), torch.device("cpu"))
            text = TextCondition.join([texts[row.text] for row in rows]).to(device)
            made = prior.sample(text, [torch.Generator().manual_seed(row.seed) for row in rows]).float().cpu()
            embeds |= dict(zip(rows, made, strict=True))
            seconds[sampling] = perf_counter() - begun
        return embeds, seconds

    def _decode(
        self, requests: Sequence[Request], embeds: Sequence[Tensor], negatives: Sequence[Tensor | None]
    ) -> list[Image.Image]:
        images: dict[int, Image.Image] = {}
        for guided_away in (False, True):
            rows = [row for row, negative in enumerate(negatives) if (negative is not None) == guided_away]
            if rows:
                negative = torch.stack([one for row in rows if (one := negatives[row]) is not None]) if guided_away else None
                prompts, seeds = zip(*[(requests[row].nearer_prompt, requests[row].seed) for row in rows], strict=True)
                made = self.decoder.decode(torch.stack([embeds[row] for row in rows]), prompts, seeds, negative)
                images |= dict(zip(rows, made, strict=True))
        return [images[row] for row in range(len(requests))]

    def _score(self, request: Request, image: Image.Image) -> dict[str, Score]:
        """One image at a time: a prompt that a scorer cannot read must not cost the others their scores."""
        scores = {}
        for scorer in self.scorers:
            try:
                (scores[scorer.name],) = scorer.score([image], [request.nearer_prompt])
            except ValueError as error:
                scores[scorer.name] = Score.failed(str(error))
        return scores

    def _cut(self, name: str) -> str:
        limit = self.encoder.context_length
        return f"The {name} is longer than the {limit} tokens that the encoder reads: its end is not read."


def sampling_of(name: str, prior: Prior) -> Sampling:
    """The settings of a prior's sampler as it was saved."""
    if not isinstance(prior, GuidedPrior):
        return Sampling(name, None, None)
    return Sampling(name, int(prior.sampling["steps"]), prior.guidance_scale)


def between_of(first: Float[Tensor, " dim"], second: Float[Tensor, " dim"], mix: float) -> Float[Tensor, " dim"]:
    """The embedding between two: on the arc between their directions (Ramesh et al. 2022, section 3.2), its length in line."""
    lengths = first.norm(), second.norm()
    one, other = first / lengths[0], second / lengths[1]
    angle = torch.arccos((one @ other).clamp(-1, 1))
    if angle < 1e-4:  # the arc of equal directions has no length to divide by
        return torch.lerp(first, second, mix)
    direction = (torch.sin((1 - mix) * angle) * one + torch.sin(mix * angle) * other) / torch.sin(angle)
    return direction * torch.lerp(*lengths, mix)
