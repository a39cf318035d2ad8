"""GenEvalScorer: GenEval's rules, with a detector and a CLIP that classifies colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from eclipse_pl.prompts.geneval import COLOURS
from eclipse_pl.prompts.prompt import Prompt
from eclipse_pl.scorers.clip_towers import ClipTowers
from eclipse_pl.scorers.detections import Detection, best
from eclipse_pl.scorers.detectors import Detector
from eclipse_pl.scorers.finite import require_finite
from eclipse_pl.scorers.geneval_rules import CONFIDENCE, COUNTING_CONFIDENCE, failures
from eclipse_pl.scorers.network_scorer import NetworkScorer
from eclipse_pl.scorers.scorer import Score

TEMPLATES = ("a photo of a {colour} {noun}", "a photo of a {colour}-colored {noun}", "a photo of a {colour} object")
GREY = (0x99, 0x99, 0x99)
"""Everything except the object becomes grey before its colour is classified."""


class GenEvalScorer(NetworkScorer):
    """1 where the image shows everything that the prompt requires, otherwise 0. The score of a model is the mean over tags.

    The official detector is Mask2Former Swin-S of mmdetection. The scorer's name includes its detector.

    Args:
        detector: `Mask2Former`, or `GroundingDino` or `Owlv2`, whose confidences are lower.
        clip: Classifies colours. GenEval uses OpenAI's ViT-L/14.
        confidence: An object counts above this confidence.
        counting_confidence: The same for prompts of the tag ``counting``.
        batch_size: Images scored at a time.
    """

    def __init__(
        self,
        detector: Detector,
        clip: ClipTowers,
        confidence: float = CONFIDENCE,
        counting_confidence: float = COUNTING_CONFIDENCE,
        batch_size: int = 8,
    ) -> None:
        super().__init__([detector, clip], batch_size)
        self.detector, self.clip = detector, clip
        self.confidence, self.counting_confidence = confidence, counting_confidence
        if detector.threshold > min(confidence, counting_confidence):
            raise ValueError(
                f"{detector.name} keeps nothing below {detector.threshold:g}, and objects count from "
                f"{min(confidence, counting_confidence):g}: lower the detector's threshold."
            )

    @property
    def name(self) -> str:
        return f"geneval_rules[{self.detector.name}]"

    @property
    def version(self) -> str:
        return f"{super().version}, confidence {self.confidence:g}, counting {self.counting_confidence:g}"

    def missing(self, prompt: Prompt) -> str | None:
        if not prompt.required:
            return "required objects"
        return "nouns that the detector knows" if self.detector.refusal(_nouns(prompt)) else None

    def require_prompts(self, prompts: Sequence[Prompt], seed: int) -> None:
        for prompt in prompts:
            if refusal := self.detector.refusal(_nouns(prompt)):
                raise ValueError(f"Prompt {prompt.id} ({prompt.text!r}): {refusal}")

    def score_batch(self, images: list[Image.Image], prompts: list[Prompt]) -> list[Score]:
        nouns = [_nouns(prompt) for prompt in prompts]
        found = self.detector.detect(images, nouns)
        scores = []
        for image, prompt, asked, detections in zip(images, prompts, nouns, found, strict=True):
            seen: dict[str, list[str]] = {}

            def colours(noun: str, objects: Sequence[Detection]) -> list[str]:
                seen[noun] = self.colours(image, noun, objects)  # noqa: B023 (called in this turn)
                return seen[noun]  # noqa: B023

            detected = {noun: best(detections, noun) for noun in asked}
            reasons = failures(prompt, detected, colours, self.confidence, self.counting_confidence)
            boxes = [detection.evidence() for detection in detections]
            scores.append(Score(float(not reasons), {"reasons": reasons, "colours": seen, "boxes": boxes}))
        return scores

    def colours(self, image: Image.Image, noun: str, objects: Sequence[Detection]) -> list[str]:
        """Return the likeliest of GenEval's ten colours for each object, with grey around it."""
        embeddings = F.normalize(self.clip.embed_images([cut_out(image, found) for found in objects]), dim=1)
        return [COLOURS[i] for i in require_finite(embeddings @ self.colour_embeddings(noun).T).argmax(1).tolist()]

    def colour_embeddings(self, noun: str) -> Float[Tensor, "colours dim"]:
        """Return CLIP's text embedding of each colour of a noun: the mean over templates."""
        texts = [template.format(colour=colour, noun=noun) for colour in COLOURS for template in TEMPLATES]
        embeddings = F.normalize(self.clip.embed_texts(texts), dim=1)
        return F.normalize(embeddings.unflatten(0, (len(COLOURS), len(TEMPLATES))).mean(1), dim=1)


def _nouns(prompt: Prompt) -> list[str]:
    return list(dict.fromkeys(entry.noun for entry in (*prompt.required, *prompt.excluded)))


def cut_out(image: Image.Image, found: Detection) -> Image.Image:
    """Cut out the object's box, at least a pixel wide, with grey outside the mask. A detector may give no masks."""
    if found.mask is not None:
        mask = Image.fromarray((found.mask.to(torch.uint8) * 255).numpy())
        image = Image.composite(image, Image.new("RGB", image.size, GREY), mask)
    left, top, right, bottom = (round(value) for value in astuple(found.box))
    left, top = min(max(left, 0), image.width - 1), min(max(top, 0), image.height - 1)
    right, bottom = min(max(right, left + 1), image.width), min(max(bottom, top + 1), image.height)
    return image.crop((left, top, right, bottom))
